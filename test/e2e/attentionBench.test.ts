/** `bench attention` at small sizes on an emulated GPU; figures mean nothing here. */
import { expect, test } from "vitest";
import {
  attentionBench,
  formatAttention,
  runAttention,
} from "../../engine/bench/attentionBench.ts";
import { emulatedGpu } from "../support/emulatedGpu.ts";

Object.assign(process.env, emulatedGpu());

const options = {
  version: "0",
  sizes: { tokens: [96], batches: [0, 2], rounds: 1 },
  limitsOf: () => ({ copyGbPerS: 100, matrixTflopPerS: 10 }),
} as const;

test("measures both kinds of attention, of a prompt and of a batch", () => {
  const report = attentionBench(options);
  expect(
    report.rows.map(({ phase, batch, tokens, choice }) => [phase, batch, tokens, choice]),
  ).toEqual([
    ["prefill", 0, 96, "token"],
    ["prefill", 0, 96, "tile"],
    ["decode", 2, 96, "token"],
  ]);
  for (const { dense, sparse, ratio } of report.rows) {
    expect(dense.us).toBeGreaterThan(0);
    expect(sparse.tflopPerS).toBeGreaterThan(0);
    expect(ratio).toBeCloseTo(dense.us / sparse.us, 6);
  }
  // Nothing is left out yet: pooled rows 0 to 4 come on top of what dense attention reads.
  const bytes = report.rows.map(
    ({ dense, sparse }) => sparse.gbPerS * sparse.us - dense.gbPerS * dense.us,
  );
  expect((bytes[2] ?? 0) * 1e3).toBeCloseTo(2 * 5 * 576 * 2, 3);
  expect(formatAttention(report)).toMatch(
    /^a prompt of 96 .*TFLOP\/s.*\na prompt of 96, 128 tokens share a choice .*TFLOP\/s.*\na token of each of 2 sequences of 96 .*GB\/s/m,
  );
});

test("needs a GPU, and says so", () => {
  expect(() => runAttention({ version: "0", device: "cpu", quick: true }, true)).toThrow(
    "expected --device cuda with the attention bench, found cpu",
  );
});
