import * as vscode from "vscode";
import { errorText } from "../base/errorText.ts";
import type { Logger } from "../base/logger.ts";
import type { CompletionController } from "../completion/completionController.ts";
import { type CompletionResult, reasonText } from "../completion/completionResult.ts";
import { refusalText } from "../context/guard/contextGuard.ts";
import { queryOf } from "./completionQuery.ts";
import { isOnFor } from "./config.ts";
import { refusalOf } from "./fileGuard.ts";
import type { WorkspaceContext } from "./workspaceContext.ts";

/** Counts of what the provider was asked and what came of it. */
export interface OutcomeCounters {
  asked: number;
  shown: number;
  nothing: number;
}

export class InlineCompletionProvider implements vscode.InlineCompletionItemProvider {
  readonly counters: OutcomeCounters = { asked: 0, shown: 0, nothing: 0 };
  lastOutcome = "";
  readonly #controller: CompletionController;
  readonly #files: WorkspaceContext;
  readonly #log: Logger;

  constructor(controller: CompletionController, files: WorkspaceContext, log: Logger) {
    this.#controller = controller;
    this.#files = files;
    this.#log = log;
  }

  async provideInlineCompletionItems(
    document: vscode.TextDocument,
    position: vscode.Position,
    context: vscode.InlineCompletionContext,
    token: vscode.CancellationToken,
  ): Promise<vscode.InlineCompletionItem[]> {
    const cursors = vscode.window.activeTextEditor?.selections.length ?? 1;
    if (!isOnFor(document) || cursors > 1) return [];
    const abort = new AbortController();
    const listening = token.onCancellationRequested(() => abort.abort());
    if (token.isCancellationRequested) abort.abort();
    try {
      const refusal = await refusalOf(document, position);
      if (refusal) return this.#refused(refusalText[refusal]);
      return await this.#items(document, position, context, abort.signal);
    } catch (error) {
      // A failure here is ours; the user is typing and can do nothing about it.
      this.#log.error(`completion failed: ${errorText(error)}`);
      return [];
    } finally {
      listening.dispose();
    }
  }

  #refused(reason: string): [] {
    this.lastOutcome = `nothing is asked here: ${reason}`;
    return [];
  }

  async #items(
    document: vscode.TextDocument,
    position: vscode.Position,
    context: vscode.InlineCompletionContext,
    signal: AbortSignal,
  ): Promise<vscode.InlineCompletionItem[]> {
    this.counters.asked++;
    const selected = context.selectedCompletionInfo;
    const started = performance.now();
    const invoked = context.triggerKind === vscode.InlineCompletionTriggerKind.Invoke;
    const query = queryOf(document, position, {
      selected,
      files: this.#files,
      trigger: invoked ? "command" : "typing",
    });
    // Asked for by hand, several texts are offered to choose from.
    const results = invoked
      ? await this.#controller.alternatives(query, signal)
      : [await this.#controller.complete(query, signal)];
    const [first] = results;
    if (first) this.#record(first, performance.now() - started);
    if (signal.aborted) return [];
    const start = selected?.range.start ?? position;
    return results.flatMap((result) => {
      if (result.kind === "nothing") return [];
      const range = new vscode.Range(start, position.translate(0, result.replaceLength));
      return [new vscode.InlineCompletionItem((selected?.text ?? "") + result.text, range)];
    });
  }

  #record(result: CompletionResult, ms: number): void {
    const took = `${ms.toFixed(0)} ms`;
    if (result.kind === "shown") {
      this.counters.shown++;
      this.lastOutcome = `${result.text.length} characters in ${took}`;
    } else {
      this.counters.nothing++;
      this.lastOutcome = [reasonText[result.reason], result.detail, took]
        .filter(Boolean)
        .join("; ");
    }
    this.#log.debug(`completion: ${this.lastOutcome}`);
  }
}
