import type { InfillRequest, InfillResponse } from "../../engine/protocol/api.ts";
import type { EngineFailure } from "./engineFailure.ts";

/** How a request ended; every request ends in exactly one of these. */
export type InfillOutcome =
  | { kind: "done"; text: string; response: InfillResponse }
  | { kind: "cancelled" }
  | { kind: "failed"; failure: EngineFailure };

export interface InfillOptions {
  signal?: AbortSignal;
  /** Called with each new piece of text. */
  onText?: (piece: string) => void;
}

/** What the features need of the engine. */
export interface EngineApi {
  /** Generates the text between prefix and suffix. Never rejects. */
  infill(request: InfillRequest, options?: InfillOptions): Promise<InfillOutcome>;
}
