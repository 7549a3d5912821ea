import { expect, it } from "vitest";
import { cpuCheck, memoryCheck, nodeCheck } from "./machineChecks.ts";

it.each([
  ["20.18.9", "warn"],
  ["20.19.0", "ok"],
  ["22.1.0", "ok"],
  ["18.20.0", "warn"],
])("judges Node %s as %s", (version, state) => {
  expect(nodeCheck(version).state).toBe(state);
});

it("warns when memory is short", () => {
  const gib = 1024 ** 3;
  expect(memoryCheck(4 * gib, 8 * gib)).toMatchObject({
    state: "ok",
    found: "4.0 of 8.0 GiB available",
  });
  expect(memoryCheck(0.2 * gib, 8 * gib).state).toBe("warn");
});

it("names the CPU and its cores", () => {
  expect(cpuCheck().found).toMatch(/, \d+ cores, /);
});
