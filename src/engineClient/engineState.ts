import type { ModelSummary } from "../../engine/protocol/api.ts";

/**
 * Where the client stands with the daemon.
 *
 *   stopped → starting → ready ⇄ working
 *                ↑  ↓       ↓
 *                failed   starting (the daemon died: back-off, then again)
 */
export type EngineState =
  | { kind: "stopped" }
  | { kind: "starting"; phase: string }
  | { kind: "ready"; model: ModelSummary }
  | { kind: "working"; model: ModelSummary }
  | { kind: "failed"; reason: string };
