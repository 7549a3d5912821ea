// One request to the engine, from its start to its end, independent of who waits for it.
import type { InfillResponse } from "../../engine/protocol/api.ts";
import { deferred } from "../base/async.ts";
import { Emitter } from "../base/emitter.ts";
import type { AnswerToken, EngineApi, InfillOutcome } from "../engineClient/engineApi.ts";
import type { CompletionMode } from "./completionMode.ts";
import type { CursorScope, CursorSyntax, TextRange } from "./cursorSyntax.ts";
import type { CursorSite } from "./documentSnapshot.ts";
import { infillRequest } from "./infillRequest.ts";
import { isComplete } from "./postProcess.ts";
import type { PromptParts } from "./promptMemory.ts";
import { isBeyondSure } from "./surePart.ts";
import { typedSince } from "./typedAhead.ts";

/** What was generated for one site. */
export interface Answer {
  site: CursorSite;
  mode: CompletionMode;
  /** Everything the model said, LF line ends. */
  text: string;
  /** The tokens that it said; their texts joined begin with `text`, and may go on where a stop string was cut off. */
  tokens: readonly AnswerToken[];
  cutByLimit: boolean;
  scope?: CursorScope | undefined;
  literals?: readonly TextRange[] | undefined;
}

export interface GenerationPlan {
  site: CursorSite;
  mode: CompletionMode;
  parts: PromptParts;
  maxTokens: number;
  /** Stop as soon as more text would not be shown. False reads on to the engine's last event, which has the timings. */
  stopEarly: boolean;
  /** `completion` for what somebody waits for, `chat` for what somebody may ask for next. */
  priority: "completion" | "chat";
  /** What the grammar says of the site, and whom to ask about the text; missing where there is no grammar. */
  scope?: CursorScope | undefined;
  syntax?: CursorSyntax | undefined;
}

export type GenerationEnd =
  | { kind: "answered"; answer: Answer; response?: InfillResponse }
  | { kind: "aborted" }
  | { kind: "failed"; message: string; notReady: boolean };

export class Generation {
  /** Settles exactly once. */
  readonly end: Promise<GenerationEnd>;
  readonly #plan: GenerationPlan;
  readonly #stop = new AbortController();
  readonly #progress = new Emitter<void>();
  #text = "";
  readonly #tokens: AnswerToken[] = [];
  #running = true;
  #early = false;
  /** Whether the grammar is being asked if the text is complete. */
  #checking = false;

  constructor(plan: GenerationPlan, engine: EngineApi) {
    this.#plan = plan;
    this.end = this.#run(engine);
  }

  get running(): boolean {
    return this.#running;
  }

  abort(): void {
    this.#stop.abort();
  }

  /** Whether `site` is this generation's own place, moved on only by typing what it says or may still say. */
  agreesWith(site: CursorSite): boolean {
    const typed = typedSince(this.#plan.site, site);
    if (typed === undefined || this.#stop.signal.aborted) return false;
    return this.#text.startsWith(typed) || (this.#running && typed.startsWith(this.#text));
  }

  /** Whether it was started for exactly this place, and not given up. */
  isFor(site: CursorSite): boolean {
    return typedSince(this.#plan.site, site) === "" && !this.#stop.signal.aborted;
  }

  /** Whether typing at `site` may lead to this generation's place. */
  mayFollow(site: CursorSite): boolean {
    const { filename, prefix } = this.#plan.site;
    return filename === site.filename && prefix.startsWith(site.prefix);
  }

  /** Resolves when the generation has ended or no longer agrees with `site`. */
  async settledFor(site: CursorSite): Promise<void> {
    const diverged = deferred<void>();
    const listening = this.#progress.on(() => this.agreesWith(site) || diverged.resolve());
    await Promise.race([this.end, diverged.promise]);
    listening.dispose();
  }

  async #run(engine: EngineApi): Promise<GenerationEnd> {
    const { site, mode, parts, maxTokens, stopEarly, priority } = this.#plan;
    const outcome = await engine.infill(
      { ...infillRequest(site, mode, parts, maxTokens), priority },
      {
        signal: this.#stop.signal,
        onText: (piece, tokens) => {
          this.#text += piece;
          this.#tokens.push(...tokens);
          if (stopEarly) this.#stopWhenDecided();
          this.#progress.emit();
        },
      },
    );
    this.#running = false;
    return this.#endOf(outcome);
  }

  /** Stops as soon as more text would not be shown. */
  #stopWhenDecided(): void {
    const { site, mode, syntax } = this.#plan;
    const text = this.#text;
    const isBeyond = isBeyondSure(this.#tokens);
    if (!isBeyond && !isComplete(text, { site, mode, cutByLimit: false })) return;
    // By its text alone it is complete; a line of less indentation may yet stand in a string.
    if (isBeyond || mode === "single" || !syntax) this.#stopEarly();
    else if (!this.#checking) this.#checkIsComplete(text);
  }

  /** Asks the grammar, and stops when it agrees. */
  #checkIsComplete(text: string): void {
    this.#checking = true;
    void this.#answerOf(text, false).then((answer) => {
      this.#checking = false;
      if (isComplete(text, answer) && this.#running) this.#stopEarly();
    });
  }

  #stopEarly(): void {
    this.#early = true;
    this.#stop.abort();
  }

  async #answerOf(text: string, cutByLimit: boolean): Promise<Answer> {
    const { site, mode, scope, syntax } = this.#plan;
    const hasStructure = /[\n)\]}]/.test(text);
    const literals = hasStructure ? await syntax?.literalsIn(site, text) : undefined;
    return { site, mode, text, tokens: this.#tokens, cutByLimit, scope, literals };
  }

  async #endOf(outcome: InfillOutcome): Promise<GenerationEnd> {
    switch (outcome.kind) {
      case "done": {
        const { response, text } = outcome;
        const answer = await this.#answerOf(text, response.stop_type === "limit");
        return { kind: "answered", answer, response };
      }
      case "cancelled":
        if (!this.#early) return { kind: "aborted" };
        return { kind: "answered", answer: await this.#answerOf(this.#text, false) };
      case "failed": {
        const { code, message } = outcome.failure;
        return { kind: "failed", message, notReady: code === "not_ready" };
      }
    }
  }
}
