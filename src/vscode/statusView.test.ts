import { expect, test } from "vitest";
import type { EngineState } from "../engineClient/engineState.ts";
import { statusView } from "./statusView.ts";

const model = {
  id: "mini",
  path: "/m/mini.gguf",
  contextLength: 1,
  device: "cpu, 2 threads",
  fim: true,
};

test("off hides what the engine does", () => {
  expect(statusView({ kind: "ready", model }, false, "").tooltip).toContain("off");
});

test.each<[EngineState, string, string]>([
  [{ kind: "stopped" }, "stopped", "tidepool.restartEngine"],
  [{ kind: "starting", phase: "loading the model" }, "loading the model", "tidepool.showLog"],
  [{ kind: "ready", model }, "mini.gguf) on cpu, 2 threads", "tidepool.toggle"],
  [{ kind: "working", model }, "cpu, 2 threads", "tidepool.toggle"],
  [{ kind: "failed", reason: "no memory" }, "no memory", "tidepool.restartEngine"],
])("%j says so and offers an action", (state, tooltip, command) => {
  const view = statusView(state, true, "shown");
  expect(view.tooltip).toContain(tooltip);
  expect(view.command).toBe(command);
  expect(view.isError).toBe(state.kind === "failed");
});

test("says how much of the other files has been read", () => {
  const state: EngineState = { kind: "ready", model, readAhead: { done: 610, total: 1000 } };
  expect(statusView(state, true, "").text).toBe("$(sparkle) Tidepool 61 %");
});
