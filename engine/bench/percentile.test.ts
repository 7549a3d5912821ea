import { describe, expect, it } from "vitest";
import { percentile, summarize } from "./percentile.ts";

describe("percentile", () => {
  it("finds the middle in unsorted values, and lies between neighbours in proportion", () => {
    expect(percentile([9, 1, 5], 0.5)).toBe(5);
    expect(percentile([1, 2], 0.5)).toBe(1.5);
    expect(percentile([0, 10, 20, 30, 40], 0.95)).toBeCloseTo(38, 9);
  });

  it("gives the only value for every share", () => {
    expect(percentile([7], 0)).toBe(7);
    expect(percentile([7], 1)).toBe(7);
  });

  it.each([
    ["no value", [], 0.5],
    ["NaN", [1, Number.NaN, 2], 0.5],
    ["infinity", [1, Number.POSITIVE_INFINITY], 0],
    ["a share above 1", [1, 2], 1.5],
  ])("refuses %s", (_, values, share) => {
    expect(() => percentile(values, share)).toThrow(/^expected finite times/);
  });
});

describe("summarize", () => {
  it("counts, averages and ranks", () => {
    const summary = summarize([4, 1, 3, 2]);
    expect(summary).toMatchObject({ n: 4, meanMs: 2.5, p50Ms: 2.5 });
    expect(summary.p95Ms).toBeCloseTo(3.85, 9);
  });
});
