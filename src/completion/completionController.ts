// From a keystroke to what is shown. Generations live here and not in the editor's call, which ends at the next keystroke.
import type { ExtraChunk } from "../../engine/protocol/api.ts";
import { delay, whenAborted } from "../base/async.ts";
import type { Disposable } from "../base/lifecycle.ts";
import type { EngineApi } from "../engineClient/engineApi.ts";
import { AnswerCache } from "./answerCache.ts";
import { resultAt } from "./answerResult.ts";
import {
  acceptsCompletion,
  type MultilineSetting,
  modeOf,
  type Trigger,
} from "./completionMode.ts";
import type { CompletionResult } from "./completionResult.ts";
import { type CursorSite, type DocumentSnapshot, siteOf } from "./documentSnapshot.ts";
import { Generation, type GenerationEnd } from "./generation.ts";

export interface CompletionSettings {
  debounceMs: number;
  maxTokens: number;
  multiline: MultilineSetting;
}

export interface CompletionQuery {
  snapshot: DocumentSnapshot;
  trigger: Trigger;
  settings: CompletionSettings;
  /** Other files for the prompt; read only when a request is made. */
  context: () => Promise<readonly ExtraChunk[]>;
}

const SUPERSEDED: CompletionResult = { kind: "nothing", reason: "superseded" };

/**
 *   query ─ refused by place → nothing
 *         ├ answered before, and typed on as it said → shown
 *         ├ running generation agrees → wait for it
 *         └ abort it → debounce → context → new generation
 */
export class CompletionController implements Disposable {
  readonly #engine: EngineApi;
  readonly #answers = new AnswerCache();
  #generation: Generation | undefined;
  /** The latest query; an older one that still waits gives way to it. */
  #latest: CompletionQuery | undefined;

  constructor(engine: EngineApi) {
    this.#engine = engine;
  }

  /** Never rejects for a failing engine; `signal` ends the wait and leaves the generation to the next query. */
  async complete(query: CompletionQuery, signal: AbortSignal): Promise<CompletionResult> {
    this.#latest = query;
    const site = siteOf(query.snapshot);
    if (!acceptsCompletion(site, query.trigger)) {
      this.#dropDisagreeing(site);
      return { kind: "nothing", reason: "mid-line" };
    }
    const known = this.#fromAnswers(site);
    if (known) return known;
    this.#dropDisagreeing(site);
    const stopped = whenAborted(signal);
    try {
      const ended = stopped.fired.then(() => SUPERSEDED);
      return await Promise.race([ended, this.#generate(query, site, signal)]);
    } finally {
      stopped.dispose();
    }
  }

  /** Ends what runs and forgets what was said; for a switch to "off" and for changed settings. */
  reset(): void {
    this.#latest = undefined;
    this.#generation?.abort();
    this.#generation = undefined;
    this.#answers.clear();
  }

  dispose(): void {
    this.reset();
  }

  async #generate(
    query: CompletionQuery,
    site: CursorSite,
    signal: AbortSignal,
  ): Promise<CompletionResult> {
    const joined = await this.#join(site);
    if (joined) return joined;
    const waitMs = query.trigger === "typing" ? query.settings.debounceMs : 0;
    if (waitMs > 0 && !(await delay(waitMs, signal))) return SUPERSEDED;
    const extra = await query.context();
    if (signal.aborted || this.#latest !== query) return SUPERSEDED;
    const generation = this.#start(query, site, extra);
    return this.#resultOf(await generation.end, site);
  }

  /** The answer of the running generation, when it still agrees with `site` at its end. */
  async #join(site: CursorSite): Promise<CompletionResult | undefined> {
    const running = this.#generation;
    if (!running?.running) return undefined;
    await running.settledFor(site);
    if (!running.agreesWith(site)) return undefined;
    return this.#resultOf(await running.end, site);
  }

  #start(query: CompletionQuery, site: CursorSite, extra: readonly ExtraChunk[]): Generation {
    const { maxTokens, multiline } = query.settings;
    const plan = { site, mode: modeOf(site, multiline), extra, maxTokens, stopEarly: true };
    this.#generation?.abort();
    const generation = new Generation(plan, this.#engine);
    this.#generation = generation;
    void generation.end.then((end) => {
      if (end.kind === "answered" && this.#generation === generation) this.#answers.put(end.answer);
    });
    return generation;
  }

  #resultOf(end: GenerationEnd, site: CursorSite): CompletionResult {
    switch (end.kind) {
      case "answered":
        return resultAt(end.answer, site);
      case "aborted":
        return SUPERSEDED;
      case "failed":
        return {
          kind: "nothing",
          reason: end.notReady ? "engine-not-ready" : "engine-failed",
          detail: end.message,
        };
    }
  }

  #fromAnswers(site: CursorSite): CompletionResult | undefined {
    const found = this.#answers.find(site);
    return found && resultAt(found.answer, site);
  }

  #dropDisagreeing(site: CursorSite): void {
    if (this.#generation && !this.#generation.agreesWith(site)) this.#generation.abort();
  }
}
