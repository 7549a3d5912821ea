// From a keystroke to what is shown. Generations live here and not in the editor's call, which ends at the next keystroke.
import { delay, whenAborted, withinTime } from "../base/async.ts";
import type { Disposable } from "../base/lifecycle.ts";
import type { EngineApi } from "../engineClient/engineApi.ts";
import { otherAnswers } from "./alternatives.ts";
import { AnswerCache } from "./answerCache.ts";
import { needsNoModel, resultAt, resultOfGuess, type Weighed, worthMore } from "./answerResult.ts";
import { acceptsCompletion, modeOf } from "./completionMode.ts";
import type { CompletionQuery } from "./completionQuery.ts";
import type { CompletionResult } from "./completionResult.ts";
import { Copying } from "./copying.ts";
import type { CursorSyntax } from "./cursorSyntax.ts";
import {
  type CursorSite,
  type DocumentSnapshot,
  siteAfterAccepting,
  siteOf,
} from "./documentSnapshot.ts";
import { beginsBelow } from "./filters/beginsBelow.ts";
import { type Answer, Generation, type GenerationEnd, type GenerationPlan } from "./generation.ts";
import { GenerationPlanner } from "./generationPlanner.ts";
import { windowOf } from "./promptWindow.ts";
import { ShownText } from "./shownText.ts";
import { ASKED_SURE, leastSure } from "./surePart.ts";
import { CompletionTrace } from "./trace/completionTrace.ts";
import type { ShownSource } from "./trace/explanation.ts";

/** A query on its way through the controller. */
interface Asked {
  query: CompletionQuery;
  site: CursorSite;
  /** Least probability of what is shown. */
  sure: number;
  /** What the file itself says. */
  copied: Weighed | undefined;
  trace: CompletionTrace;
}

/** Waits so many milliseconds: true when they passed, false as soon as the signal fires. */
export type Wait = (ms: number, signal: AbortSignal) => Promise<boolean>;

/** What controllers may be given besides the engine. */
export interface ControllerOptions {
  /** For programs that measure in a time of their own. */
  wait?: Wait;
  /** Without it, rules on the text alone decide. */
  syntax?: CursorSyntax;
}

const SUPERSEDED: CompletionResult = { kind: "nothing", reason: "superseded" };

/**
 *   query ─ refused by place → nothing
 *         ├ answered before, and typed on as it said → shown
 *         ├ the file itself says for sure what follows → shown
 *         ├ running generation agrees → wait for it
 *         └ abort it → debounce → context → new generation
 *   shown ─ generation for the place behind the text, should it be taken
 */
export class CompletionController implements Disposable {
  readonly #engine: EngineApi;
  readonly #wait: Wait;
  readonly #planner: GenerationPlanner;
  readonly #answers = new AnswerCache();
  readonly #shownText = new ShownText();
  readonly #copying = new Copying();
  /** The document whose related texts were read last. */
  #relatedTo = "";
  /** What somebody waits for, and what somebody may ask for next. */
  #generation: Generation | undefined;
  #ahead: Generation | undefined;
  #reading: AbortController | undefined;
  /** The latest query; an older one that still waits gives way to it. */
  #latest: CompletionQuery | undefined;

  constructor(engine: EngineApi, { wait = delay, syntax }: ControllerOptions = {}) {
    this.#engine = engine;
    this.#wait = wait;
    this.#planner = new GenerationPlanner(syntax);
  }

  /** Never rejects for a failing engine; `signal` ends the wait and leaves the generation to the next query. */
  async complete(query: CompletionQuery, signal: AbortSignal): Promise<CompletionResult> {
    this.#latest = query;
    const { trace = new CompletionTrace() } = query;
    const site = siteOf(query.snapshot);
    trace.site = site;
    trace.settings = query.settings;
    await this.#learnOnce(query);
    this.#shownText.movedTo(site);
    if (!acceptsCompletion(site, query.trigger)) {
      this.#dropDisagreeing(site);
      return { kind: "nothing", reason: "mid-line" };
    }
    const sure = leastSure(this.#shownText.nPassedOver, query.settings.sure);
    trace.sure = sure;
    const at = { query, site, sure, copied: this.#copied(query, site, sure, trace), trace };
    const known = this.#known(at);
    if (known?.kind === "shown") return this.#shown(at, known);
    this.#dropDisagreeing(site);
    const stopped = whenAborted(signal);
    try {
      const ended = stopped.fired.then(() => SUPERSEDED);
      const result = await Promise.race([ended, this.#generate(at, signal)]);
      return signal.aborted ? SUPERSEDED : this.#shown(at, result);
    } finally {
      stopped.dispose();
    }
  }

  /** The best guess and up to three whole texts for one place, different ones; what was refused here before is offered again. */
  async alternatives(query: CompletionQuery, signal: AbortSignal): Promise<CompletionResult[]> {
    this.#latest = query;
    const { trace = new CompletionTrace() } = query;
    const site = siteOf(query.snapshot);
    trace.site = site;
    trace.settings = query.settings;
    await this.#learnOnce(query);
    this.#dropDisagreeing(site);
    const scope = this.#planner.scopeAt(site);
    const plan = await this.#planner.plan(query, site, { scope, priority: "completion", trace });
    if (signal.aborted) return [SUPERSEDED];
    const sure = leastSure(0, query.settings.sure);
    const copied = this.#copied(query, site, sure, trace);
    return otherAnswers(this.#engine, plan, signal, { sure, copied, trace });
  }

  /**
   * Has the engine read what a completion at this place will need, when it has nothing else to do: other files, which stay
   * resident under the name `workspace`, and the file itself. A later call takes the place of an earlier one.
   */
  async readAhead(query: CompletionQuery, workspace: string): Promise<void> {
    this.#reading?.abort();
    const reading = new AbortController();
    this.#reading = reading;
    const site = siteOf(query.snapshot);
    await this.learn(query);
    const { suffix, extra } = await this.#planner.partsFor(query, site);
    if (reading.signal.aborted) return;
    const window = windowOf({ prefix: site.prefix, suffix });
    await this.#engine.prefill(
      {
        input_prefix: window.prefix,
        input_suffix: window.suffix,
        input_extra: [...extra],
        filename: site.filename,
        resident: workspace,
      },
      reading.signal,
    );
  }

  /** Reads the files that are like the query's, to copy from them. */
  async learn({ snapshot, related }: CompletionQuery): Promise<void> {
    this.#relatedTo = snapshot.filename;
    await this.#copying.learn(await related());
  }

  /** Somebody who asks waits for these files; who types does not. */
  async #learnOnce(query: CompletionQuery): Promise<void> {
    if (this.#relatedTo === query.snapshot.filename) return;
    const learned = this.learn(query);
    if (query.trigger === "command") await learned;
  }

  /** The user has refused what is shown. */
  reject(snapshot: DocumentSnapshot, text: string): void {
    this.#shownText.refuse(siteOf(snapshot), text);
  }

  /** Resolves when nothing is computed ahead. */
  async settled(): Promise<void> {
    await this.#ahead?.end;
  }

  /** Other files are asked for anew by the next request, where those of the last would have served. */
  forgetContext(): void {
    this.#planner.forget();
  }

  /** Ends what runs and forgets what was said; for a switch to "off" and for changed settings. */
  reset(): void {
    this.#latest = undefined;
    this.#generation?.abort();
    this.#generation = undefined;
    this.#ahead?.abort();
    this.#ahead = undefined;
    this.#reading?.abort();
    this.#answers.clear();
    this.#planner.forget();
    this.#copying.forget();
    this.#relatedTo = "";
    this.#shownText.clear();
  }

  dispose(): void {
    this.reset();
  }

  /** What can be shown at once: an answer that was given before, or a copy that needs no model. */
  #known(at: Asked): CompletionResult | undefined {
    const { site, sure, copied, trace } = at;
    const since = trace.ms;
    const answered = this.#fromAnswers(site, sure, trace);
    const isShown = answered?.result.kind === "shown";
    const kept = answered ? "an earlier answer, too unsure or cut away" : "none that goes on here";
    trace.stage("answers", since, isShown ? "an earlier answer goes on here" : kept);
    if (isShown) return this.#better(answered, at, "answers");
    if (!needsNoModel(copied)) return undefined;
    trace.source = "copy";
    return copied.result;
  }

  /** The text that is worth more: that of an answer, or the copied one. */
  #better(answer: Weighed, { copied, trace }: Asked, source: ShownSource): CompletionResult {
    const better = worthMore(answer, copied);
    trace.source = better.isCopy ? "copy" : source;
    return better.result;
  }

  /** For somebody who asked, where nothing is sure enough to be shown by itself. */
  #guessed({ site, trace }: Asked, unsure: CompletionResult): CompletionResult {
    if (unsure.kind === "shown" || unsure.reason !== "unsure") return unsure;
    trace.sure = ASKED_SURE;
    return this.#fromAnswers(site, ASKED_SURE, trace)?.result ?? unsure;
  }

  #copied(
    { settings }: CompletionQuery,
    site: CursorSite,
    sure: number,
    trace: CompletionTrace,
  ): Weighed | undefined {
    const since = trace.ms;
    const mode = modeOf(site, settings.multiline);
    const guess = this.#copying.guess(site, sure, mode === "multi");
    const found = guess
      ? `${guess.text.length} characters, right with a probability of ${guess.probability.toFixed(2)}`
      : "nothing in this file or one like it is sure enough";
    const copied = guess && resultOfGuess(guess, site, mode, trace.filtering("copy", guess.text));
    trace.stage("copies", since, found);
    return copied;
  }

  async #generate(at: Asked, signal: AbortSignal): Promise<CompletionResult> {
    const { query, site, trace } = at;
    const joined = await this.#join(at);
    if (joined?.result.kind === "shown") return this.#better(joined, at, "model");
    const scope = this.#planner.scopeAt(site);
    const waitMs = query.trigger === "typing" && !joined ? query.settings.debounceMs : 0;
    const since = trace.ms;
    const waited = waitMs === 0 || (await this.#wait(waitMs, signal));
    trace.stage("debounce", since, waited ? `${waitMs} ms set` : "another key came");
    if (!waited) return SUPERSEDED;
    const plan = await this.#planner.plan(query, site, { scope, priority: "completion", trace });
    if (signal.aborted || this.#latest !== query) return SUPERSEDED;
    this.#generation?.abort();
    this.#generation = this.#start(plan);
    const result = this.#better(await this.#resultInTime(this.#generation, at), at, "model");
    return query.trigger === "command" ? this.#guessed(at, result) : result;
  }

  /** What the generation says at its end; after the budget what it has said so far, if that can be shown. */
  async #resultInTime(generation: Generation, at: Asked): Promise<Weighed> {
    const { query, site, sure, trace } = at;
    const { budgetMs } = query.settings;
    trace.generation = generation.record;
    const settled = generation.settledFor(site).then(() => true);
    if (budgetMs !== undefined && !(await withinTime(settled, budgetMs))) {
      const soFar = filtered(await generation.soFar(), site, sure, trace);
      if (soFar.result.kind === "shown" && generation.agreesWith(site)) return soFar;
    }
    await settled;
    if (!generation.agreesWith(site)) return { result: SUPERSEDED, probability: 0 };
    return this.#resultOf(await generation.end, at);
  }

  /** The answer of a running generation, when it still agrees with `site` at its end. */
  async #join(at: Asked): Promise<Weighed | undefined> {
    const { site, trace } = at;
    const since = trace.ms;
    const running = [this.#generation, this.#ahead].find((g) => g?.running && g.agreesWith(site));
    if (!running) return undefined;
    const joined = await this.#resultInTime(running, at);
    const agrees = running.agreesWith(site);
    const what = agrees ? "waited for a request that was running" : "a running request fell out";
    trace.stage("join", since, what);
    return agrees ? joined : undefined;
  }

  #start(plan: GenerationPlan): Generation {
    const generation = new Generation(plan, this.#engine);
    void generation.end.then((end) => {
      if (end.kind === "answered") this.#answers.put(end.answer);
    });
    return generation;
  }

  /** Passes a result on its way to the user: refused texts stay away, and the place behind a shown one is computed next. */
  #shown({ query, site }: Asked, result: CompletionResult): CompletionResult {
    if (result.kind === "nothing") return result;
    const text = result.text.replaceAll("\r\n", "\n");
    if (query.trigger === "typing") {
      if (beginsBelow(text, site)) return { kind: "nothing", reason: "not-visible" };
      if (this.#shownText.isRefused(site, text)) return { kind: "nothing", reason: "rejected" };
    }
    this.#shownText.show(site, text);
    void this.#lookAhead(query, siteAfterAccepting(site, result));
    return result;
  }

  async #lookAhead(query: CompletionQuery, site: CursorSite): Promise<void> {
    if (this.#ahead?.isFor(site)) return;
    const least = leastSure(0, query.settings.sure);
    if (this.#fromAnswers(site, least)?.result.kind === "shown") return;
    if (!acceptsCompletion(site, "typing")) return;
    const plan = await this.#planner.plan(query, site, {
      scope: this.#planner.scopeAt(site),
      priority: "chat",
    });
    if (this.#latest !== query || this.#generation?.running) return;
    this.#ahead?.abort();
    this.#ahead = this.#start(plan);
  }

  #resultOf(end: GenerationEnd, { site, sure, trace }: Asked): Weighed {
    switch (end.kind) {
      case "answered":
        return filtered(end.answer, site, sure, trace);
      case "aborted":
        return { result: SUPERSEDED, probability: 0 };
      case "failed": {
        const reason = end.notReady ? "engine-not-ready" : "engine-failed";
        return { result: { kind: "nothing", reason, detail: end.message }, probability: 0 };
      }
    }
  }

  #fromAnswers(site: CursorSite, sure: number, trace?: CompletionTrace): Weighed | undefined {
    const found = this.#answers.find(site);
    return found && filtered(found.answer, site, sure, trace);
  }

  /** Ends what no typing from here on could make use of. */
  #dropDisagreeing(site: CursorSite): void {
    if (this.#generation && !this.#generation.agreesWith(site)) this.#generation.abort();
    if (this.#ahead && !this.#ahead.agreesWith(site) && !this.#ahead.mayFollow(site))
      this.#ahead.abort();
  }
}

function filtered(
  answer: Answer,
  site: CursorSite,
  sure: number,
  trace?: CompletionTrace,
): Weighed {
  return resultAt(answer, site, sure, trace?.filtering("model", answer.text, answer.tokens));
}
