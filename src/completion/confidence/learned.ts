// What this user takes of what is shown, and how sure a text must therefore be. Old evidence fades, with every new piece and
// with time, so that no habit holds for ever.
import * as v from "valibot";
import { BALANCED_SURE } from "../surePart.ts";
import { BANDS, type Mode } from "./modes.ts";

/** Weights of what was shown, and of the parts of it that were taken. */
const evidence = v.object({ shown: v.number(), taken: v.number(), atMs: v.number() });
type Evidence = v.InferOutput<typeof evidence>;

const stored = v.object({
  version: v.literal(1),
  overall: evidence,
  languages: v.record(v.string(), evidence),
});

/** What is kept between starts. */
export type StoredLearning = v.InferOutput<typeof stored>;

/** With every text that is shown, what was before counts for so much less. */
const FADES = 0.98;
/** After so long without use it counts half. */
const HALF_LIFE_MS = 4 * 24 * 3600 * 1000;
/** So many texts shown are not enough to say anything: the expected share counts as so many of them. */
const DOUBT = 10;
/** A language is judged by itself from so many texts on. */
const ENOUGH_OF_LANGUAGE = 15;

export interface Threshold {
  /** Least probability of what is shown. */
  sure: number;
  /** In words and numbers, without code. */
  because: string;
}

export class Learned {
  #overall: Evidence;
  readonly #languages: Map<string, Evidence>;

  /** `kept` is what `stored` gave in another session; anything else begins anew. */
  constructor(kept?: unknown) {
    const parsed = v.safeParse(stored, kept);
    this.#overall = parsed.success ? parsed.output.overall : nothing(0);
    this.#languages = new Map(parsed.success ? Object.entries(parsed.output.languages) : []);
  }

  get stored(): StoredLearning {
    return {
      version: 1,
      overall: this.#overall,
      languages: Object.fromEntries(this.#languages),
    };
  }

  /** A text was shown, of which the user took the share `taken`, from 0 to 1. */
  count(languageId: string, taken: number, nowMs: number): void {
    this.#overall = withOne(this.#overall, taken, nowMs);
    const known = this.#languages.get(languageId) ?? nothing(nowMs);
    this.#languages.set(languageId, withOne(known, taken, nowMs));
  }

  /** How sure a text in this language must be to be shown. */
  thresholdFor(mode: Mode, languageId: string, nowMs: number): Threshold {
    const own = faded(this.#languages.get(languageId) ?? nothing(nowMs), nowMs);
    const isEnough = own.shown >= ENOUGH_OF_LANGUAGE;
    const known = isEnough ? own : faded(this.#overall, nowMs);
    if (known.shown < 1) return { sure: startOf(mode), because: "nothing was learned yet" };
    const share = Math.round((100 * known.taken) / known.shown);
    return {
      sure: thresholdOf(mode, known),
      because: `you took ${share} % of what was shown lately in ${isEnough ? languageId : "all languages"}`,
    };
  }

  reset(): void {
    this.#overall = nothing(0);
    this.#languages.clear();
  }
}

/** How sure a text must be before anything was learned. */
export function startOf(mode: Mode): number {
  return mode === "balanced" ? BALANCED_SURE : BANDS[mode].start;
}

function thresholdOf(mode: Mode, { shown, taken }: Evidence): number {
  const band = BANDS[mode];
  const share = (taken + DOUBT * band.taken) / (shown + DOUBT);
  const sure = logistic(logit(startOf(mode)) + logit(band.taken) - logit(share));
  return Math.min(band.highest, Math.max(band.lowest, sure));
}

function nothing(atMs: number): Evidence {
  return { shown: 0, taken: 0, atMs };
}

function withOne(before: Evidence, taken: number, nowMs: number): Evidence {
  const old = faded(before, nowMs);
  return { shown: old.shown * FADES + 1, taken: old.taken * FADES + taken, atMs: nowMs };
}

function faded({ shown, taken, atMs }: Evidence, nowMs: number): Evidence {
  const left = 0.5 ** (Math.max(0, nowMs - atMs) / HALF_LIFE_MS);
  return { shown: shown * left, taken: taken * left, atMs: nowMs };
}

function logit(p: number): number {
  return Math.log(p / (1 - p));
}

function logistic(x: number): number {
  return 1 / (1 + Math.exp(-x));
}
