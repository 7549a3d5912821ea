/** What the scheduler asks of a model: rows in, logits out. It knows token ids and cache blocks, and no text. */
import type { KvSequence, PagedKv } from "../kvcache/pagedKv.ts";

/** One sequence's share of a step: these tokens follow those that its cache holds. */
export interface StepPart {
  readonly sequence: KvSequence;
  readonly tokens: readonly number[];
  /** Whether the logits after the last of `tokens` are wanted. */
  readonly wantsLogits: boolean;
}

/** Logits of the parts that wanted them, in order; valid until the next step. */
export interface StepLogits {
  /** Most likely token of each row (ties: the lowest id) and its natural-log probability. */
  greedy(): { ids: Int32Array; logProbs: Float32Array };
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
  /** Computes a step. Blocks for all tokens must be reserved; the caller commits the tokens afterwards. */
  forward(parts: readonly StepPart[]): StepLogits;
}
