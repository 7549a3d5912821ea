import { expect, test } from "vitest";
import { ChunkSize, evenStepSizes } from "./chunkSize.ts";

/** What it settles on when a step takes `msOf` its tokens, and the longest step on the way. */
function settle(chunk: ChunkSize, msOf: (tokens: number) => number, steps = 40) {
  let longest = 0;
  for (let i = 0; i < steps; i++) {
    const ms = msOf(chunk.tokens);
    longest = Math.max(longest, ms);
    chunk.observe(chunk.tokens, ms);
  }
  return { tokens: chunk.tokens, longest };
}

test("sizes in proportion are whole cache blocks, and end with the largest", () => {
  expect(evenStepSizes(256)).toEqual([32, 64, 128, 192, 256]);
  expect(evenStepSizes(100)).toEqual([32, 64, 100]);
  expect(evenStepSizes(16)).toEqual([16]);
});

test("chunks approach what the machine computes in 32 ms", () => {
  const chunk = new ChunkSize(evenStepSizes(512));
  expect(settle(chunk, (tokens) => tokens / 8)).toEqual({ tokens: 256, longest: 64 });
  expect(settle(chunk, (tokens) => tokens / 2).tokens).toBe(64);
  expect(settle(chunk, () => 1000).tokens).toBe(32);
});

test("chunks stay within their bounds, and decoding steps do not count", () => {
  const chunk = new ChunkSize(evenStepSizes(512));
  for (let i = 0; i < 50; i++) chunk.observe(1, 1000);
  expect(chunk.tokens).toBe(128);
  expect(settle(chunk, (tokens) => tokens * 10).tokens).toBe(32);
  expect(settle(chunk, () => 0.1).tokens).toBe(512);
});

test("the short last step of a prompt does not make the chunks of the next prompt smaller", () => {
  const chunk = new ChunkSize(evenStepSizes(512));
  settle(chunk, (tokens) => tokens / 8);
  chunk.observe(40, 10);
  chunk.observe(150, 40);
  expect(chunk.tokens).toBe(256);
});

// An H200 with Coder-V2-Lite: up to 64 tokens in one form, above in another, whose time hardly depends on them.
const SIZES = [64, 512, 1024, 2048];
const onGpu = (depth: number) => (tokens: number) =>
  tokens <= 64 ? 14 + depth * 7e-5 : 25 + tokens * 0.01 + depth * 2e-4;

test("a step that takes a little longer and reads many times as much is worth it", () => {
  const chunk = new ChunkSize(SIZES);
  expect(settle(chunk, onGpu(0))).toEqual({ tokens: 1024, longest: onGpu(0)(1024) });
  expect(settle(chunk, onGpu(60_000)).tokens).toBe(1024);
  expect(settle(chunk, onGpu(170_000)).tokens).toBe(64);
});

test("a step that is known to take long is not tried again", () => {
  const chunk = new ChunkSize(SIZES);
  const slow = (tokens: number) => 10 * onGpu(0)(tokens);
  settle(chunk, slow);
  expect(settle(chunk, slow, 300)).toEqual({ tokens: 64, longest: slow(64) });
});

test("a step that would take too long is not, and is tried again when steps are quick", () => {
  const chunk = new ChunkSize(SIZES);
  expect(settle(chunk, (tokens) => 4 * onGpu(0)(tokens)).tokens).toBe(64);
  expect(settle(chunk, onGpu(0), 200).tokens).toBeGreaterThanOrEqual(1024);
});
