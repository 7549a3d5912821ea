/** What the scheduler asks of a model: rows in, logits out. It knows token ids and cache blocks, and no text. */
import type { KvSequence, PagedKv } from "../kvcache/pagedKv.ts";

/** One sequence's share of a step: these tokens follow those that its cache holds. */
export interface StepPart {
  readonly sequence: KvSequence;
  readonly tokens: readonly number[];
  /** Whether the logits after the last of `tokens` are wanted. */
  readonly wantsLogits: boolean;
  /** Of `tokens`, how many at the end are only a guess, 0 when missing: logits are wanted before each of them as well. */
  readonly nDrafts?: number;
}

/** Rows of logits that a part gets: after its last token that is sure, and after each draft. */
export function nLogitsOf({ wantsLogits, nDrafts = 0 }: StepPart): number {
  return wantsLogits ? nDrafts + 1 : 0;
}

/** Most likely token of each row (ties: the lowest id) and its natural-log probability. */
export interface GreedyChoices {
  ids: Int32Array;
  logProbs: Float32Array;
}

/** Logits of the parts that wanted them (`nLogitsOf` rows each), in order; valid until the next step. */
export interface StepLogits {
  greedy(): GreedyChoices;
  /** Raw logits of one row (vocab). */
  row(index: number): Float32Array;
}

export interface Model {
  readonly contextLength: number;
  readonly vocab: number;
  readonly kv: PagedKv;
  /** Bytes that all blocks of the cache take when they are in use. */
  readonly kvBytes: number;
  /** Most tokens, and most sequences, that one step may compute. */
  readonly maxStepTokens: number;
  readonly maxStepSequences: number;
  /** Tokens of a step that are worth choosing from, ascending; where they are missing, time is in proportion to tokens. */
  readonly stepSizes?: readonly number[];
  /** Most drafts of all parts of a step; 0 when a draft would cost as much as a step. */
  readonly maxStepDrafts: number;
  /** Computes a step. Blocks for all tokens must be reserved; the caller commits the tokens afterwards. */
  forward(parts: readonly StepPart[]): StepLogits;
}
