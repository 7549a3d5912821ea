import type { InfillRequest, InfillResponse, PrefillRequest } from "../../engine/protocol/api.ts";
import type { EngineFailure } from "./engineFailure.ts";

/** How a request ended; every request ends in exactly one of these. */
export type InfillOutcome =
  | { kind: "done"; text: string; response: InfillResponse }
  | { kind: "cancelled" }
  | { kind: "failed"; failure: EngineFailure };

/** A token as the model chose it: its text, and the natural logarithm of its probability there. */
export interface AnswerToken {
  text: string;
  logProb: number;
}

/** What the engine did before the first token. */
export interface PromptFacts {
  /** Of the prompt. */
  tokens: number;
  /** Of those, how many the engine had computed before. */
  cached: number;
  /** Milliseconds behind other requests, and of reading the rest of the prompt; missing where the engine does not say. */
  queueMs?: number | undefined;
  promptMs?: number | undefined;
}

export interface InfillOptions {
  signal?: AbortSignal;
  /** Called with each new piece of text and the tokens that were chosen for it. */
  onText?: (piece: string, tokens: readonly AnswerToken[]) => void;
  /** Called once, before the first text. */
  onPrompt?: (prompt: PromptFacts) => void;
}

/** What the features need of the engine. */
export interface EngineApi {
  /** Generates the text between prefix and suffix. Never rejects. */
  infill(request: InfillRequest, options?: InfillOptions): Promise<InfillOutcome>;
  /** Has a prompt computed when the engine has nothing else to do. Resolves at its end, however it ended. */
  prefill(request: PrefillRequest, signal?: AbortSignal): Promise<void>;
}
