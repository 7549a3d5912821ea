import { basename } from "node:path";
import * as vscode from "vscode";
import type { ExtraChunk } from "../../engine/protocol/api.ts";
import type { DocumentSnapshot } from "../completion/documentSnapshot.ts";
import { repositoryContext } from "../context/repositoryContext.ts";
import { contextTokens } from "./config.ts";
import { guardOf } from "./fileGuard.ts";

/** The document as it would stand with the suggest widget's selected item inserted, when there is one. */
export function snapshotOf(
  document: vscode.TextDocument,
  position: vscode.Position,
  selected: vscode.SelectedCompletionInfo | undefined,
): DocumentSnapshot {
  const text = document.getText();
  const offset = document.offsetAt(position);
  const filename = workspaceOf(document)?.filename ?? basename(document.uri.path);
  if (!selected) return { filename, text, offset };
  const start = document.offsetAt(selected.range.start);
  const end = document.offsetAt(selected.range.end);
  return {
    filename,
    text: text.slice(0, start) + selected.text + text.slice(end),
    offset: start + selected.text.length,
  };
}

/** Other files for the prompt. Only files of a folder on disk have any. */
export async function contextOf(document: vscode.TextDocument): Promise<readonly ExtraChunk[]> {
  // Nothing of an untrusted workspace is read but the file that its user opened.
  if (!vscode.workspace.isTrusted) return [];
  const place = workspaceOf(document);
  if (!place) return [];
  const context = await repositoryContext({
    ...place,
    guard: guardOf(place.workspace),
    text: document.getText(),
    budgetTokens: contextTokens(document),
  });
  return context.chunks;
}

function workspaceOf(
  document: vscode.TextDocument,
): { workspace: string; filename: string } | undefined {
  const folder = vscode.workspace.getWorkspaceFolder(document.uri);
  if (!folder || document.uri.scheme !== "file") return undefined;
  return {
    workspace: folder.uri.fsPath,
    filename: vscode.workspace.asRelativePath(document.uri, false),
  };
}
