import * as vscode from "vscode";
import { Emitter } from "../base/emitter.ts";
import { errorText } from "../base/errorText.ts";
import type { Logger } from "../base/logger.ts";
import type { CompletionController } from "../completion/completionController.ts";
import type { CompletionResult } from "../completion/completionResult.ts";
import { CompletionTrace } from "../completion/trace/completionTrace.ts";
import { type Explanation, explanationOf, wordsFor } from "../completion/trace/explanation.ts";
import { TraceStore } from "../completion/trace/traceStore.ts";
import { whyNotAsked } from "./asking.ts";
import { queryOf } from "./completionQuery.ts";
import type { Confidence } from "./confidence.ts";
import { traceAsked } from "./traceAsked.ts";
import type { WorkspaceContext } from "./workspaceContext.ts";

/** Counts of what the provider was asked and what came of it. */
export interface OutcomeCounters {
  asked: number;
  shown: number;
  nothing: number;
}

export class InlineCompletionProvider implements vscode.InlineCompletionItemProvider {
  readonly counters: OutcomeCounters = { asked: 0, shown: 0, nothing: 0 };
  readonly traces = new TraceStore();
  lastOutcome = "";
  readonly #controller: CompletionController;
  readonly #files: WorkspaceContext;
  readonly #confidence: Confidence;
  readonly #log: Logger;
  readonly #outcomes = new Emitter<void>();

  constructor(parts: ProviderParts) {
    this.#controller = parts.controller;
    this.#files = parts.files;
    this.#confidence = parts.confidence;
    this.#log = parts.log;
  }

  /** Hears when a request has ended. */
  onOutcome(listener: () => void): vscode.Disposable {
    return this.#outcomes.on(listener);
  }

  async provideInlineCompletionItems(
    document: vscode.TextDocument,
    position: vscode.Position,
    context: vscode.InlineCompletionContext,
    token: vscode.CancellationToken,
  ): Promise<vscode.InlineCompletionItem[]> {
    const trace = new CompletionTrace();
    const abort = new AbortController();
    const listening = token.onCancellationRequested(() => abort.abort());
    if (token.isCancellationRequested) abort.abort();
    try {
      return await this.#answer({ document, position, context, trace, signal: abort.signal });
    } catch (error) {
      // A failure here is ours; the user is typing and can do nothing about it.
      this.#log.error(`completion failed: ${errorText(error)}`);
      this.#end(trace, { kind: "defect", message: errorText(error) });
      return [];
    } finally {
      listening.dispose();
    }
  }

  async #answer(asking: Asking): Promise<vscode.InlineCompletionItem[]> {
    const { document, position, context, trace } = asking;
    const invoked = context.triggerKind === vscode.InlineCompletionTriggerKind.Invoke;
    const threshold = this.#confidence.thresholdFor(document);
    trace.asked = traceAsked(document, invoked ? "command" : "typing", threshold);
    const selected = context.selectedCompletionInfo
      ? ", with a selected item of the suggest widget"
      : "";
    trace.stage("trigger", 0, (invoked ? "asked for by hand" : "a key, or a move") + selected);
    const cursors = vscode.window.activeTextEditor?.selections.length ?? 1;
    const why =
      cursors > 1
        ? ({ kind: "several-cursors" } as const)
        : await whyNotAsked(document, position, trace);
    if (why) {
      this.#end(trace, { kind: "not-asked", why });
      return [];
    }
    return this.#items(asking, invoked, threshold.sure);
  }

  async #items(
    asking: Asking,
    invoked: boolean,
    sure: number,
  ): Promise<vscode.InlineCompletionItem[]> {
    const { document, position, context, trace, signal } = asking;
    this.counters.asked++;
    const selected = context.selectedCompletionInfo;
    const query = queryOf(document, position, {
      selected,
      files: this.#files,
      trigger: invoked ? "command" : "typing",
      trace,
      sure,
    });
    // Asked for by hand, several texts are offered to choose from.
    const results = invoked
      ? await this.#controller.alternatives(query, signal)
      : [await this.#controller.complete(query, signal)];
    const [first] = results;
    if (first) this.#record(first, trace);
    if (signal.aborted) return [];
    const start = selected?.range.start ?? position;
    const items = results.flatMap((result) => {
      if (result.kind === "nothing") return [];
      const range = new vscode.Range(start, position.translate(0, result.replaceLength));
      return [new vscode.InlineCompletionItem((selected?.text ?? "") + result.text, range)];
    });
    if (!invoked) this.#learnFrom(first, asking, items);
    return items;
  }

  /** What was asked for by hand says nothing of how sure a suggestion must be that comes by itself. */
  #learnFrom(
    result: CompletionResult | undefined,
    { document, trace: { site } }: Asking,
    [item]: readonly vscode.InlineCompletionItem[],
  ): void {
    if (!site || !result) return;
    const text = result.kind === "shown" ? result.text : undefined;
    const taken = this.#confidence.offered(site, text, document.languageId);
    if (item && taken) item.command = taken;
  }

  #record(result: CompletionResult, trace: CompletionTrace): void {
    this.counters[result.kind]++;
    this.#end(trace, explanationOf(result, trace.source));
  }

  #end(trace: CompletionTrace, outcome: Explanation): void {
    trace.finish(outcome);
    this.traces.add(trace);
    const said = `${wordsFor(outcome).said}; ${trace.totalMs.toFixed(0)} ms`;
    this.#log.debug(`completion: ${said}`);
    // While somebody types, most requests end like this, and none of these ends is worth a word.
    if (outcome.kind === "nothing" && outcome.reason === "superseded") return;
    this.lastOutcome = said;
    this.#outcomes.emit();
  }
}

interface ProviderParts {
  controller: CompletionController;
  files: WorkspaceContext;
  confidence: Confidence;
  log: Logger;
}

/** One call of the editor. */
interface Asking {
  document: vscode.TextDocument;
  position: vscode.Position;
  context: vscode.InlineCompletionContext;
  trace: CompletionTrace;
  signal: AbortSignal;
}
