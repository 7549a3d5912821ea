// Has the engine read what the next completion needs as soon as the user stops somewhere, before anything is typed.
import * as vscode from "vscode";
import { errorText } from "../base/errorText.ts";
import type { Logger } from "../base/logger.ts";
import type { CompletionController } from "../completion/completionController.ts";
import { whyNotAsked } from "./asking.ts";
import { queryOf } from "./completionQuery.ts";
import type { WorkspaceContext } from "./workspaceContext.ts";

/** A cursor that rests for so long is where the user is going to type. */
const REST_MS = 400;

export class ReadAhead implements vscode.Disposable {
  readonly #controller: CompletionController;
  readonly #files: WorkspaceContext;
  readonly #log: Logger;
  readonly #listening: vscode.Disposable;
  #timer: NodeJS.Timeout | undefined;

  constructor(controller: CompletionController, files: WorkspaceContext, log: Logger) {
    this.#controller = controller;
    this.#files = files;
    this.#log = log;
    this.#listening = vscode.Disposable.from(
      vscode.window.onDidChangeActiveTextEditor((editor) => this.#later(editor)),
      // Typing moves the cursor too, and is answered by completions.
      vscode.window.onDidChangeTextEditorSelection(({ kind, textEditor }) => {
        if (kind !== undefined) this.#later(textEditor);
      }),
    );
    this.#later(vscode.window.activeTextEditor);
  }

  dispose(): void {
    clearTimeout(this.#timer);
    this.#listening.dispose();
  }

  #later(editor: vscode.TextEditor | undefined): void {
    clearTimeout(this.#timer);
    if (editor === undefined || editor !== vscode.window.activeTextEditor) return;
    this.#timer = setTimeout(() => void this.#read(editor), REST_MS);
  }

  async #read({ document, selection }: vscode.TextEditor): Promise<void> {
    if (document.isClosed || (await whyNotAsked(document, selection.active))) return;
    const folder = vscode.workspace.getWorkspaceFolder(document.uri);
    const query = queryOf(document, selection.active, {
      trigger: "typing",
      files: this.#files,
    });
    try {
      await this.#controller.readAhead(query, folder?.uri.toString() ?? "no folder");
    } catch (error) {
      this.#log.error(`reading ahead failed: ${errorText(error)}`);
    }
  }
}
