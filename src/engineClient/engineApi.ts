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

export interface InfillOptions {
  signal?: AbortSignal;
  /** Called with each new piece of text and the tokens that were chosen for it. */
  onText?: (piece: string, tokens: readonly AnswerToken[]) => void;
  /** Called once, before the first text, with the tokens of the prompt and how many of them the engine had computed before. */
  onPrompt?: (tokens: number, cached: number) => void;
}

/** What the features need of the engine. */
export interface EngineApi {
  /** Generates the text between prefix and suffix. Never rejects. */
  infill(request: InfillRequest, options?: InfillOptions): Promise<InfillOutcome>;
  /** Has a prompt computed when the engine has nothing else to do. Resolves at its end, however it ended. */
  prefill(request: PrefillRequest, signal?: AbortSignal): Promise<void>;
}
