// What happened to one request for a completion, from the keystroke to what was shown. Taking it down costs next to nothing:
// it keeps references and times, and whoever wants to read it works the figures out.
import type { AnswerToken } from "../../engineClient/engineApi.ts";
import type { Trigger } from "../completionMode.ts";
import type { CompletionSettings } from "../completionSettings.ts";
import type { CursorSite } from "../documentSnapshot.ts";
import type { FilterStep } from "../filters/filter.ts";
import type { GenerationRecord } from "../generation.ts";
import type { Explanation, ShownSource } from "./explanation.ts";

/** In the order in which a request passes them; what the engine and the filters did is kept apart from these. */
export type StageName =
  | "trigger"
  | "trust"
  | "file guard"
  | "copies"
  | "answers"
  | "join"
  | "debounce"
  | "syntax"
  | "context"
  | "engine"
  | "shown before";

export interface Stage {
  name: StageName;
  /** Milliseconds since the request came. */
  startMs: number;
  ms: number;
  /** What came of it, in words and numbers of ours: never text of the user, for it stands in reports. */
  note: string;
}

/** Where a text came from. */
export type TextSource = "model" | "copy";

/** A text on its way through the filters. */
export interface Filtering {
  text: string;
  steps: FilterStep[];
  tokens: readonly AnswerToken[];
}

/** What the editor knows of a request. */
export interface TraceAsked {
  /** Finds the request's document again. */
  document: string;
  /** With its dot; empty for a name without one. */
  extension: string;
  languageId: string;
  trigger: Trigger;
  /** Quiet, balanced or eager. */
  mode: string;
  /** Shows of what was learned how much went into the least probability. */
  learned: string;
}

export class CompletionTrace {
  /** Milliseconds since 1970. */
  readonly at = Date.now();
  readonly stages: Stage[] = [];
  readonly filterings: Partial<Record<TextSource, Filtering>> = {};
  asked: TraceAsked | undefined;
  settings: CompletionSettings | undefined;
  site: CursorSite | undefined;
  /** Least probability of what was to be shown. */
  sure = Number.NaN;
  generation: GenerationRecord | undefined;
  /** Where what is shown came from. */
  source: ShownSource = "model";
  /** How the request ended; undefined while it is on its way. */
  outcome: Explanation | undefined;
  /** From the request to its outcome. */
  totalMs = Number.NaN;
  readonly #started = performance.now();

  /** Milliseconds since the request came. */
  get ms(): number {
    return performance.now() - this.#started;
  }

  /** When the request came, on the clock of `performance.now()`. */
  get started(): number {
    return this.#started;
  }

  /** Takes down a stage that began at `startMs` and ends now. */
  stage(name: StageName, startMs: number, note: string): void {
    this.stages.push({ name, startMs, ms: this.ms - startMs, note });
  }

  /** Begins to take down what the filters do to a text; the last text from each source is kept. */
  filtering(source: TextSource, text: string, tokens: readonly AnswerToken[] = []): FilterStep[] {
    const steps: FilterStep[] = [];
    this.filterings[source] = { text, steps, tokens };
    return steps;
  }

  finish(outcome: Explanation): void {
    this.outcome = outcome;
    this.totalMs = this.ms;
  }
}
