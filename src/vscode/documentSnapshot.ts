import { basename } from "node:path";
import * as vscode from "vscode";
import type { DocumentSnapshot } from "../completion/documentSnapshot.ts";

/** The document as it would stand with the suggest widget's selected item inserted, when there is one. */
export function snapshotOf(
  document: vscode.TextDocument,
  position: vscode.Position,
  selected: vscode.SelectedCompletionInfo | undefined,
): DocumentSnapshot {
  const text = document.getText();
  const offset = document.offsetAt(position);
  const filename = placeOf(document)?.filename ?? basename(document.uri.path);
  if (!selected) return { filename, text, offset };
  const start = document.offsetAt(selected.range.start);
  const end = document.offsetAt(selected.range.end);
  return {
    filename,
    text: text.slice(0, start) + selected.text + text.slice(end),
    offset: start + selected.text.length,
  };
}

/** Where a document lies: its folder, and its path in it with forward slashes. */
export interface WorkspacePlace {
  folder: vscode.WorkspaceFolder;
  filename: string;
}

/** The place of a document that is a file of an open folder. */
export function placeOf(document: vscode.TextDocument): WorkspacePlace | undefined {
  const folder = vscode.workspace.getWorkspaceFolder(document.uri);
  if (!folder || document.uri.scheme !== "file") return undefined;
  return { folder, filename: vscode.workspace.asRelativePath(document.uri, false) };
}
