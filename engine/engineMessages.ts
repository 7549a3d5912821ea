/** What the HTTP thread and the engine's thread say to each other. */
import type { EngineErrorCode } from "./base/errors.ts";
import type { EngineActivity, EngineOptions, EngineStats, GenerationInput } from "./engine.ts";
import type { ModelSummary } from "./protocol/api.ts";
import type { GenerationEvent } from "./scheduler/request.ts";

/** Argument that starts the bundle as the engine's process, which hears its EngineWorkerData as the first message. */
export const ENGINE_PROCESS = "engine-process";

/** `workerData` of the engine's thread; tells the bundle's entry which thread it is. */
export interface EngineWorkerData {
  role: "tidepool-engine";
  options: EngineOptions;
}

/** Questions that get one answer each. */
export interface EngineQuestions {
  tokenize: { ask: string; answer: number[] };
  detokenize: { ask: number[]; answer: string };
  stats: { ask: undefined; answer: EngineStats };
}

export type QuestionName = keyof EngineQuestions;

export type ToEngine =
  | { type: "submit"; id: number; input: GenerationInput }
  | { type: "cancel"; id: number }
  | {
      [K in QuestionName]: {
        type: "ask";
        id: number;
        question: K;
        value: EngineQuestions[K]["ask"];
      };
    }[QuestionName];

/** An event of the request with this id. */
export interface EngineEvent {
  id: number;
  event: GenerationEvent;
}

export type FromEngine =
  /** `onGpu`: weights and cache lie in the memory of a card. */
  | { type: "ready"; model: ModelSummary; notes: readonly string[]; onGpu: boolean }
  /** Nothing more follows. After `ready` with code `device`: the device was lost. */
  | { type: "failed"; code: EngineErrorCode; message: string }
  | { type: "events"; events: EngineEvent[] }
  /** Sent when the numbers change. */
  | { type: "activity"; activity: EngineActivity }
  | { type: "answer"; id: number; value: unknown };
