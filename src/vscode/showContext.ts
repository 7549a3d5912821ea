// "Tidepool: Show Context": what a completion at the cursor would see of other files, as a document nobody can edit.
import * as vscode from "vscode";
import { refusalText } from "../context/guard/contextGuard.ts";
import type { Retrieval } from "../context/snippet.ts";
import { placeOf } from "./documentSnapshot.ts";
import { refusalOf } from "./fileGuard.ts";
import { tellInfo } from "./notifications.ts";
import type { WorkspaceContext } from "./workspaceContext.ts";

export const CONTEXT_SCHEME = "tidepool-context";

export class ContextDocuments implements vscode.TextDocumentContentProvider, vscode.Disposable {
  readonly #texts = new Map<string, string>();
  readonly #changes = new vscode.EventEmitter<vscode.Uri>();
  readonly onDidChange = this.#changes.event;

  provideTextDocumentContent(uri: vscode.Uri): string {
    return this.#texts.get(uri.toString()) ?? "";
  }

  /** Shows `text` beside the editor; a second call for the same name takes its place. */
  async show(name: string, text: string): Promise<void> {
    const uri = vscode.Uri.from({ scheme: CONTEXT_SCHEME, path: `/${name}` });
    this.#texts.set(uri.toString(), text);
    this.#changes.fire(uri);
    const document = await vscode.workspace.openTextDocument(uri);
    await vscode.window.showTextDocument(document, {
      viewColumn: vscode.ViewColumn.Beside,
      preview: true,
      preserveFocus: true,
    });
  }

  dispose(): void {
    this.#changes.dispose();
    this.#texts.clear();
  }
}

/** Opens the context of the active editor's cursor. */
export async function showContext(
  context: WorkspaceContext,
  documents: ContextDocuments,
): Promise<void> {
  const editor = vscode.window.activeTextEditor;
  if (!editor) return tellInfo("open a file first.");
  const { document, selection } = editor;
  const refusal = await refusalOf(document, selection.active);
  if (refusal) return tellInfo(`nothing is asked in this document: ${refusalText[refusal]}.`);
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
