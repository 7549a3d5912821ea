// From a keystroke to what is shown. Generations live here and not in the editor's call, which ends at the next keystroke.
import type { ExtraChunk } from "../../engine/protocol/api.ts";
import { delay, whenAborted } from "../base/async.ts";
import type { Disposable } from "../base/lifecycle.ts";
import type { EngineApi } from "../engineClient/engineApi.ts";
import { otherAnswers } from "./alternatives.ts";
import { AnswerCache } from "./answerCache.ts";
import { resultAt } from "./answerResult.ts";
import {
  acceptsCompletion,
  type MultilineSetting,
  modeOf,
  type Trigger,
} from "./completionMode.ts";
import type { CompletionResult } from "./completionResult.ts";
import {
  type CursorSite,
  type DocumentSnapshot,
  siteAfterAccepting,
  siteOf,
} from "./documentSnapshot.ts";
import { Generation, type GenerationEnd, type GenerationPlan } from "./generation.ts";
import { PromptMemory } from "./promptMemory.ts";
import { Rejections } from "./rejections.ts";

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

/** Waits so many milliseconds: true when they passed, false as soon as the signal fires. */
export type Wait = (ms: number, signal: AbortSignal) => Promise<boolean>;

const SUPERSEDED: CompletionResult = { kind: "nothing", reason: "superseded" };

/**
 *   query ─ refused by place → nothing
 *         ├ answered before, and typed on as it said → shown
 *         ├ running generation agrees → wait for it
 *         └ abort it → debounce → context → new generation
 *   shown ─ generation for the place behind the text, should it be taken
 */
export class CompletionController implements Disposable {
  readonly #engine: EngineApi;
  readonly #wait: Wait;
  readonly #answers = new AnswerCache();
  readonly #memory = new PromptMemory();
  readonly #rejections = new Rejections();
  /** What somebody waits for, and what somebody may ask for next. */
  #generation: Generation | undefined;
  #ahead: Generation | undefined;
  /** The latest query; an older one that still waits gives way to it. */
  #latest: CompletionQuery | undefined;

  /** `wait` is for programs that measure in a time of their own. */
  constructor(engine: EngineApi, wait: Wait = delay) {
    this.#engine = engine;
    this.#wait = wait;
  }

  /** Never rejects for a failing engine; `signal` ends the wait and leaves the generation to the next query. */
  async complete(query: CompletionQuery, signal: AbortSignal): Promise<CompletionResult> {
    const site = this.#begin(query);
    if (!acceptsCompletion(site, query.trigger)) {
      this.#dropDisagreeing(site);
      return { kind: "nothing", reason: "mid-line" };
    }
    const known = this.#fromAnswers(site);
    if (known?.kind === "shown") return this.#shown(query, site, known);
    this.#dropDisagreeing(site);
    const stopped = whenAborted(signal);
    try {
      const ended = stopped.fired.then(() => SUPERSEDED);
      const result = await Promise.race([ended, this.#generate(query, site, signal)]);
      return signal.aborted ? SUPERSEDED : this.#shown(query, site, result);
    } finally {
      stopped.dispose();
    }
  }

  /** Up to three different texts for one place, the most likely first; what was refused here before is offered again. */
  async alternatives(query: CompletionQuery, signal: AbortSignal): Promise<CompletionResult[]> {
    const site = this.#begin(query);
    this.#dropDisagreeing(site);
    const parts = await this.#memory.partsFor(site, query.context);
    if (signal.aborted) return [SUPERSEDED];
    const plan = this.#plan(query, site, parts, "completion");
    return otherAnswers(this.#engine, plan, signal);
  }

  /** The user has refused what is shown. */
  reject(snapshot: DocumentSnapshot, text: string): void {
    this.#rejections.reject(siteOf(snapshot), text);
  }

  /** Resolves when nothing is computed ahead. */
  async settled(): Promise<void> {
    await this.#ahead?.end;
  }

  /** Ends what runs and forgets what was said; for a switch to "off" and for changed settings. */
  reset(): void {
    this.#latest = undefined;
    this.#generation?.abort();
    this.#generation = undefined;
    this.#ahead?.abort();
    this.#ahead = undefined;
    this.#answers.clear();
    this.#memory.forget();
    this.#rejections.clear();
  }

  dispose(): void {
    this.reset();
  }

  #begin(query: CompletionQuery): CursorSite {
    this.#latest = query;
    const site = siteOf(query.snapshot);
    this.#rejections.movedTo(site);
    return site;
  }

  async #generate(
    query: CompletionQuery,
    site: CursorSite,
    signal: AbortSignal,
  ): Promise<CompletionResult> {
    const joined = await this.#join(site);
    if (joined?.kind === "shown") return joined;
    const waitMs = query.trigger === "typing" && !joined ? query.settings.debounceMs : 0;
    if (waitMs > 0 && !(await this.#wait(waitMs, signal))) return SUPERSEDED;
    const parts = await this.#memory.partsFor(site, query.context);
    if (signal.aborted || this.#latest !== query) return SUPERSEDED;
    this.#generation?.abort();
    this.#generation = this.#start(this.#plan(query, site, parts, "completion"));
    return this.#resultOf(await this.#generation.end, site);
  }

  /** The answer of a running generation, when it still agrees with `site` at its end. */
  async #join(site: CursorSite): Promise<CompletionResult | undefined> {
    const running = [this.#generation, this.#ahead].find((g) => g?.running && g.agreesWith(site));
    if (!running) return undefined;
    await running.settledFor(site);
    if (!running.agreesWith(site)) return undefined;
    return this.#resultOf(await running.end, site);
  }

  #plan(
    query: CompletionQuery,
    site: CursorSite,
    parts: GenerationPlan["parts"],
    priority: GenerationPlan["priority"],
  ): GenerationPlan {
    const { maxTokens, multiline } = query.settings;
    const mode = modeOf(site, multiline);
    return { site, mode, parts, maxTokens, stopEarly: true, priority };
  }

  #start(plan: GenerationPlan): Generation {
    const generation = new Generation(plan, this.#engine);
    void generation.end.then((end) => {
      if (end.kind === "answered") this.#answers.put(end.answer);
    });
    return generation;
  }

  /** Passes a result on its way to the user: refused texts stay away, and the place behind a shown one is computed next. */
  #shown(query: CompletionQuery, site: CursorSite, result: CompletionResult): CompletionResult {
    if (result.kind === "nothing") return result;
    if (query.trigger === "typing" && this.#rejections.isRejected(site, result.text))
      return { kind: "nothing", reason: "rejected" };
    this.#rejections.showed(site, result.text.replaceAll("\r\n", "\n"));
    void this.#lookAhead(query, siteAfterAccepting(site, result));
    return result;
  }

  async #lookAhead(query: CompletionQuery, site: CursorSite): Promise<void> {
    if (this.#ahead?.isFor(site) || this.#fromAnswers(site)?.kind === "shown") return;
    if (!acceptsCompletion(site, "typing")) return;
    const parts = await this.#memory.partsFor(site, query.context);
    if (this.#latest !== query || this.#generation?.running) return;
    this.#ahead?.abort();
    this.#ahead = this.#start(this.#plan(query, site, parts, "chat"));
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

  /** Ends what no typing from here on could make use of. */
  #dropDisagreeing(site: CursorSite): void {
    if (this.#generation && !this.#generation.agreesWith(site)) this.#generation.abort();
    if (this.#ahead && !this.#ahead.agreesWith(site) && !this.#ahead.mayFollow(site))
      this.#ahead.abort();
  }
}
