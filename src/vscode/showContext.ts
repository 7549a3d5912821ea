// "Tidepool: Show Context": what a completion at the cursor would see of other files, as a document nobody can edit.
import * as vscode from "vscode";
import { wordsFor } from "../completion/trace/explanation.ts";
import type { Retrieval } from "../context/snippet.ts";
import { whyNotAsked } from "./asking.ts";
import { placeOf } from "./documentSnapshot.ts";
import { tellInfo } from "./notifications.ts";
import type { ReadOnlyDocuments } from "./readOnlyDocuments.ts";
import type { WorkspaceContext } from "./workspaceContext.ts";

export const CONTEXT_SCHEME = "tidepool-context";

/** Opens the context of the active editor's cursor. */
export async function showContext(
  context: WorkspaceContext,
  documents: ReadOnlyDocuments,
): Promise<void> {
  const editor = vscode.window.activeTextEditor;
  if (!editor) return tellInfo("open a file first.");
  const { document, selection } = editor;
  const why = await whyNotAsked(document, selection.active);
  if (why) return tellInfo(`${wordsFor({ kind: "not-asked", why }).said}.`);
  const retrieval = await context.retrieve(document, selection.active);
  if (!retrieval)
    return tellInfo("nothing of other files is read for this document, or the index is not ready.");
  const line = selection.active.line + 1;
  const name = placeOf(document)?.filename ?? "untitled";
  await documents.show(`Context of ${name.replaceAll("/", "∕")}`, reportOf(retrieval, name, line));
}

/** The snippets with where they stand and why. */
function reportOf({ snippets, tokens, ms }: Retrieval, name: string, line: number): string {
  const head = `Context for ${name}:${line}: ${snippets.length} snippets, ${tokens} tokens, ${ms.toFixed(1)} ms\n`;
  const parts = snippets.map(
    ({ path, startLine, endLine, reason, text }) =>
      `\n#${path}:${startLine}-${endLine}  (${reason})\n${text}\n`,
  );
  return head + parts.join("");
}
