import { expect, it } from "vitest";
import { Stages } from "./stages.mjs";

function recorded() {
  const lines = [];
  return { lines, stages: new Stages((line) => lines.push(line)) };
}

it("runs later stages after a failure and ends with the sum as its last line", async () => {
  const { lines, stages } = recorded();
  expect(await stages.run("first", async () => ({ passed: 2, failed: 1, skipped: 0 }))).toBe(false);
  expect(await stages.run("second", async () => ({ passed: 3, failed: 0, skipped: 0 }))).toBe(true);
  expect(stages.summary()).toBe(1);
  expect(lines.at(-1)).toBe("5 passed, 1 failed");
});

it("counts a stage that throws as one failure and prints why", async () => {
  const { lines, stages } = recorded();
  await stages.run("build", () => Promise.reject(new Error("no compiler")));
  expect(stages.summary()).toBe(1);
  expect(lines.join("\n")).toContain("no compiler");
  expect(lines.at(-1)).toBe("0 passed, 1 failed");
});

it("prints a skipped stage and does not count it as passed", async () => {
  const { lines, stages } = recorded();
  await stages.run("unit", async () => ({ passed: 1, failed: 0, skipped: 0 }));
  stages.skip("clang-format", "not installed", { optional: true });
  expect(stages.summary()).toBe(0);
  expect(lines).toContain("! clang-format: SKIPPED: not installed");
  expect(lines.at(-1)).toBe("1 passed, 0 failed");
});

it("fails when a required stage cannot be tried, and when nothing ran", () => {
  const required = recorded();
  required.stages.skip("vscode", "no Chromium");
  expect(required.stages.summary()).toBe(1);
  const empty = recorded();
  empty.stages.skip("vscode", "no Chromium", { optional: true });
  expect(empty.stages.summary()).toBe(1);
});
