// The editor's own path as a source: the same controller and filters, a real engine, and waiting that only counts.
import type { InfillRequest } from "../../engine/protocol/api.ts";
import { delay } from "../base/async.ts";
import { CompletionController } from "../completion/completionController.ts";
import type { CompletionQuery } from "../completion/completionQuery.ts";
import type { EngineApi, InfillOptions, PromptFacts } from "../engineClient/engineApi.ts";
import { LocalSyntax } from "../syntax/localSyntax.ts";
import type { Offer, Place, Source } from "./idealUser.ts";

/** What the engine had to compute, over all requests that somebody waited for. */
export interface PromptTally {
  requests: number;
  promptTokens: number;
  cachedTokens: number;
  /** Prompt tokens that were computed, of every request. */
  fresh: number[];
}

export interface ControllerSourceOptions {
  engine: EngineApi;
  debounceMs: number;
  maxTokens: number;
  /** Time that the user takes for one key: what is computed ahead has that long. */
  keyMs: number;
}

export class ControllerSource implements Source {
  readonly prompts: PromptTally = { requests: 0, promptTokens: 0, cachedTokens: 0, fresh: [] };
  readonly #options: ControllerSourceOptions;
  readonly #controller: CompletionController;
  readonly #signal = new AbortController().signal;
  #related: readonly string[] = [];
  /** Time that the controller wanted to wait for in the query that runs. */
  #virtualMs = 0;

  constructor(options: ControllerSourceOptions) {
    this.#options = options;
    this.#controller = new CompletionController(this.#counted(options.engine), {
      wait: (ms) => {
        this.#virtualMs += ms;
        return Promise.resolve(true);
      },
      syntax: new LocalSyntax(),
    });
  }

  async offer({ filename, before, after }: Place): Promise<Offer | undefined> {
    this.#virtualMs = 0;
    const startedAt = performance.now();
    const query = this.#query({ filename, before, after });
    const result = await this.#controller.complete(query, this.#signal);
    const ms = performance.now() - startedAt + this.#virtualMs;
    if (result.kind === "shown") return { text: result.text.replaceAll("\r\n", "\n"), ms };
    if (result.reason === "engine-failed" || result.reason === "engine-not-ready")
      throw new Error(`the engine could not answer: ${result.detail ?? result.reason}`);
    return undefined;
  }

  async pause(): Promise<void> {
    await Promise.race([this.#controller.settled(), delay(this.#options.keyMs)]);
  }

  /** Begins another document: forgets everything, and reads the texts that are like it. */
  async open(filename: string, related: readonly string[]): Promise<void> {
    this.#controller.reset();
    this.#related = related;
    await this.#controller.learn(this.#query({ filename, before: "", after: "" }));
  }

  #query({ filename, before, after }: Place): CompletionQuery {
    const { debounceMs, maxTokens } = this.#options;
    return {
      snapshot: { filename, text: before + after, offset: before.length },
      trigger: "typing",
      settings: { debounceMs, maxTokens, multiline: "auto" },
      context: () => Promise.resolve([]),
      related: () => Promise.resolve(this.#related),
    };
  }

  #counted(engine: EngineApi): EngineApi {
    const onPrompt = ({ tokens, cached }: PromptFacts) => {
      this.prompts.requests++;
      this.prompts.promptTokens += tokens;
      this.prompts.cachedTokens += cached;
      this.prompts.fresh.push(tokens - cached);
    };
    return {
      infill: (request: InfillRequest, options: InfillOptions = {}) =>
        engine.infill(request, { ...options, onPrompt }),
      prefill: (request, signal) => engine.prefill(request, signal),
    };
  }
}
