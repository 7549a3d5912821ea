/** What a client asks of the scheduler, and what it hears back. */
import type { EngineErrorCode } from "../base/errors.ts";
import type { Priority } from "../protocol/api.ts";
import type { SamplingParams, TokenChoice } from "../sampling/sampler.ts";

/** One generation. `prompt` is tokens; text is the engine's business. */
export interface GenerationRequest {
  id: number;
  prompt: readonly number[];
  /** Most tokens to generate; 0 only fills the cache. */
  maxTokens: number;
  sampling: SamplingParams;
  /** Generation ends before the first of these. */
  stop: readonly string[];
  priority: Priority;
  /** Alternatives to report for each token. */
  nTop: number;
  /** Bytes that the generated tokens must begin with and that are no part of the answer: the word before the cursor. */
  forced?: Uint8Array;
  /** 0 (default): the most likely first token; 1 the second, and so on: answers to one prompt that differ. */
  branch?: number;
  /** Id of a live request with the same prompt: this one waits for its prompt and shares the rows, copied when they part. */
  forkOf?: number;
  /** When the prompt is computed, its first `nTokens` stay in the cache under `key` until others take that name. */
  pin?: { key: string; nTokens: number };
}

export interface WrittenToken extends TokenChoice {
  /** Written form; U+FFFD for bytes that are only a part of a character. */
  text: string;
}

export interface GeneratedToken extends WrittenToken {
  /** The most likely tokens, most likely first; empty unless asked for. */
  top: readonly WrittenToken[];
}

export type FinishReason = "eos" | "limit" | "word" | "cancelled";

export interface GenerationResult extends PromptFigures {
  finish: FinishReason;
  predictedMs: number;
  drafts: DraftCounts;
}

/** Tokens of the answer that were guessed and verified several at a time, and how many of them were right. */
export interface DraftCounts {
  drafted: number;
  accepted: number;
}

/** Tokens of a prompt, how many of them were in the cache, and the time until the first token was chosen. */
export interface PromptFigures {
  promptTokens: number;
  cachedTokens: number;
  /** Until the request was admitted. */
  queueMs: number;
  /** From then until the first token. */
  promptMs: number;
}

/** A request hears any number of deltas, then exactly one `done` or `error`. */
export type GenerationEvent =
  | { type: "delta"; text: string; tokens: GeneratedToken[]; prompt: PromptFigures }
  | { type: "done"; text: string; result: GenerationResult }
  | { type: "error"; code: EngineErrorCode; message: string };
