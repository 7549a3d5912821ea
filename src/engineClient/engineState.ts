import type { ModelSummary } from "../../engine/protocol/api.ts";

/**
 * Where the client stands with the daemon.
 *
 *   stopped → starting → ready ⇄ working
 *                ↑  ↓       ↓
 *                failed   starting (the daemon died: back-off, then again)
 */
/** Tokens of other files that the engine reads in idle time, and how many of them it has read. */
export interface ReadAhead {
  done: number;
  total: number;
}

export type EngineState =
  | { kind: "stopped" }
  | { kind: "starting"; phase: string }
  | { kind: "ready"; model: ModelSummary; readAhead?: ReadAhead }
  | { kind: "working"; model: ModelSummary; readAhead?: ReadAhead }
  | { kind: "failed"; reason: string };
