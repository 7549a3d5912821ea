import path from "node:path";
import { expect, test } from "vitest";
import { EngineError } from "../base/errors.ts";
import { readGguf } from "../loader/gguf.ts";
import { contextThatFits, fitContext, planMemory, sumOf } from "./memoryPlan.ts";
import { parseMlaMoeConfig } from "./parseConfig.ts";

const GIB = 1024 ** 3;
const fixtures = path.resolve(import.meta.dirname, "../../test/fixtures/vectors");
const gguf = readGguf(path.join(fixtures, "deepseek2-lite.gguf"));
/** The shape of Coder-V2-Lite, over a file whose tensors are of no account. */
const config = {
  ...parseMlaMoeConfig(gguf),
  nLayers: 27,
  nHeads: 16,
  nopeDim: 128,
  vDim: 128,
  latentDim: 512,
  ropeDim: 64,
  contextLength: 163_840,
};

test("counts 27 rows of 640 halves for a token, a quarter more tokens than the context, and W_UK and W_UV as f32", () => {
  const { weights, cache } = planMemory(gguf, config, 16_384);
  expect(cache).toBe((16_384 * 1.25 + 16 * 64) * 27 * 640 * 2);
  const tensors = [...gguf.tensors.values()].reduce((sum, { nBytes }) => sum + nBytes, 0);
  expect(weights).toBe(tensors + 27 * 16 * 256 * 512 * 4);
});

test("offers the file's context where it fits, and what fits elsewhere", () => {
  expect(contextThatFits(gguf, config, undefined, 32 * GIB)).toBe(163_840);
  const most = contextThatFits(gguf, config, undefined, 2 * GIB);
  expect(most % 64).toBe(0);
  expect(planMemory(gguf, config, most).total).toBeLessThanOrEqual(2 * GIB);
  expect(planMemory(gguf, config, most + 64).total).toBeGreaterThan(2 * GIB);
  expect(contextThatFits(gguf, config, 4096, 2 * GIB)).toBe(4096);
});

test("says what an option that takes less would make fit", () => {
  const planOf = (bytes: number) => (tokens: number) =>
    sumOf({ weights: GIB, cache: tokens * bytes, workspace: 0 });
  const fitted = (available: number) =>
    fitContext({
      ...{ path: "m.gguf", own: 65_536, wanted: 65_536, planOf: planOf(32_768) },
      ...{ memory: { kind: "GPU memory", available }, elsewise: "nothing fits" },
      other: { how: "--kv-cache fp8", planOf: planOf(16_384) },
    });
  expect(fitted(3 * GIB)).toBe(65_536);
  const says = (what: string) => new RegExp(`: ${what}$`);
  expect(() => fitted(2 * GIB)).toThrow(
    says("a context of 32768 tokens fits; with --kv-cache fp8 65536 tokens do"),
  );
  expect(() => fitted(1.5 * GIB)).toThrow(
    says("a context of 16384 tokens fits; with --kv-cache fp8 32768 tokens do"),
  );
  expect(() => fitted(0.5 * GIB)).toThrow(says("nothing fits"));
});

test.each([
  [65_536, 1.5 * GIB, /found 1.5 GiB: a context of \d+ tokens fits$/],
  [65_536, 0.1 * GIB, /found 0.1 GiB: a file with smaller weights may fit$/],
  [undefined, 0.1 * GIB, /cache of 163840 tokens 6.6 GiB/],
  [undefined, 0.45 * GIB, /a context of \d+ tokens fits$/],
])("says what would fit when %j tokens do not fit into %d bytes", (wanted, available, message) => {
  const attempt = () => contextThatFits(gguf, config, wanted, available);
  expect(attempt).toThrow(EngineError);
  expect(attempt).toThrow(message);
  expect(attempt).toThrow(/^[^\n]+$/);
});
