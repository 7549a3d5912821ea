/**
 * What travels between a client (extension, CLI) and the engine daemon. A leaf: clients import this folder and nothing else of the engine.
 * HTTP/1.1 over a Unix socket (named pipe on Windows); streams are server-sent events. docs/protocol.md describes each call.
 */

/** Raised when a change here would confuse an older client; checked at the handshake (`Health.protocol`). */
export const PROTOCOL_VERSION = 2;

export type EnginePhase = "loading" | "ready" | "draining" | "failed";

/** GET /health. Answers at once in every phase; HTTP 503 while not ready. */
export interface Health {
  status: EnginePhase;
  /** Package version of the engine that answers. */
  version: string;
  protocol: number;
  pid: number;
  /** Why, when `status` is `failed`; and of an engine that lost its device: what happened. */
  reason?: string;
  model?: ModelSummary;
  /** When the memory of the GPU was given back: `released`, or `reloading` for a request that waits. Missing otherwise. */
  weights?: "released" | "reloading";
}

export interface ModelSummary {
  id: string;
  /** Absolute path of the file. */
  path: string;
  contextLength: number;
  /** One line: device, instruction set, threads. */
  device: string;
  fim: boolean;
}

/** A file, or a part of one, that comes before the current file in the prompt. */
export interface ExtraChunk {
  /** Path relative to the workspace, with forward slashes. */
  filename: string;
  text: string;
}

/** POST /infill: llama.cpp's form, plus `filename` and `priority`. Text is never parsed for special tokens. */
export interface InfillRequest {
  input_prefix: string;
  input_suffix: string;
  input_extra?: ExtraChunk[];
  /** Path of the current file relative to the workspace. */
  filename?: string;
  /** Most tokens to generate; default 128. */
  n_predict?: number;
  /** 0 (default) is greedy. */
  temperature?: number;
  top_k?: number;
  top_p?: number;
  seed?: number;
  /** Generation ends before the first of these strings. */
  stop?: string[];
  stream?: boolean;
  priority?: Priority;
  /** Answers that begin with different tokens, the most likely first; default 1, at most 8. More than one are sent whole. */
  n?: number;
  /** The word before the cursor may be cut into other tokens when it goes on; default true. */
  heal?: boolean;
}

/** POST /tidepool/prefill: computes a prompt in idle time, so that a later request finds it in the cache. */
export interface PrefillRequest {
  /** Other files, as in `InfillRequest`. */
  input_extra?: ExtraChunk[];
  input_prefix?: string;
  input_suffix?: string;
  filename?: string;
  /** The other files' rows stay in the cache under this name, until the name is used again. */
  resident?: string;
}

export interface PrefillResponse {
  /** Tokens of the prompt. */
  tokens: number;
  /** Of those, how many were in the cache. */
  tokens_cached: number;
  ms: number;
}

/** Strictly ordered; docs: design of the scheduler in ARCHITECTURE.md. */
export type Priority = "completion" | "chat" | "prefill";

export type StopType = "eos" | "limit" | "word" | "none";

/** Another answer to the same request. */
export interface InfillAlternative {
  content: string;
  stop_type: StopType;
  logprobs: number[];
  texts: string[];
}

/** Part of a streamed answer. */
export interface InfillPiece {
  stop: false;
  content: string;
  tokens: number[];
  tokens_evaluated: number;
  tokens_cached: number;
  /** Of `tokens`, as in `InfillResponse`. */
  logprobs: number[];
  /** Text of `tokens`; `content` may lag behind it by what a stop string holds back. */
  texts: string[];
  /** For a client that ends the request before its last event; missing from older engines. */
  timings?: PromptTimings;
}

/** Answer to /infill; with `stream` the last event, after any number of `InfillPiece`. */
export interface InfillResponse {
  content: string;
  stop: boolean;
  stop_type: StopType;
  model: string;
  tokens: number[];
  /** Natural-log probability of each generated token under the raw logits; of a healed one, given what stands before the cursor. */
  logprobs: number[];
  /** With `n` above 1, the answers after the first. */
  alternatives?: InfillAlternative[];
  /** Text of each of `tokens`. */
  texts: string[];
  tokens_predicted: number;
  /** Tokens of the whole prompt. */
  tokens_evaluated: number;
  /** Of those, how many came from the prefix cache. */
  tokens_cached: number;
  timings: InfillTimings;
}

/** Milliseconds until the first token. */
export interface PromptTimings {
  /** Behind other requests. */
  queue_ms: number;
  /** Reading what of the prompt was not in the cache. */
  prompt_ms: number;
}

export interface InfillTimings extends PromptTimings {
  /** From the first token to the last. */
  predicted_ms: number;
  /** Tokens that were guessed and verified several at a time, and how many of them were right (llama.cpp's names). */
  draft_n?: number;
  draft_n_accepted?: number;
}

/** Body of every error answer, and of an `error` event inside a stream. */
export interface ErrorBody {
  error: { code: ErrorCode; message: string; retryable: boolean };
}

export type ErrorCode =
  | "bad_request"
  | "prompt_too_long"
  | "body_too_large"
  | "not_found"
  | "not_ready"
  | "unauthorized"
  | "overloaded"
  | "unsupported"
  | "internal";

/** GET /tidepool/state: what the engine holds. */
export interface EngineState {
  health: Health;
  sequences: { running: number; waiting: number };
  kv: {
    blocksTotal: number;
    blocksUsed: number;
    blocksCached: number;
    tokensCached: number;
    /** Of those, tokens that stay whatever else is asked for. */
    tokensPinned: number;
    bytes: number;
  };
  /** Tokens that were guessed since the start, and how many of them were right. */
  drafts: { drafted: number; accepted: number };
  memory: { rssBytes: number };
  requests: { accepted: number; finished: number; cancelled: number; failed: number };
}

/** GET /tidepool/events: an SSE stream that also counts as "a client is here". Event names are the keys. */
export interface EngineEvents {
  health: Health;
  activity: {
    running: number;
    waiting: number;
    /** Tokens of prompts that are computed in idle time, and how many of them are done. */
    prefill?: { done: number; total: number };
  };
}

/** JSON in `engine.lock` of the runtime folder: how clients find the daemon. */
export interface LockFile {
  pid: number;
  /** Path of the socket or named pipe. */
  socket: string;
  version: string;
  protocol: number;
  /** Model file the daemon was started with. */
  model: string;
}
