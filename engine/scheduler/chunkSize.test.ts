import { expect, test } from "vitest";
import { ChunkSize } from "./chunkSize.ts";

test("chunks approach what the machine computes in 30 ms", () => {
  const chunk = new ChunkSize(512);
  for (let i = 0; i < 20; i++) chunk.observe(chunk.tokens, chunk.tokens / 8);
  expect(chunk.tokens).toBeGreaterThanOrEqual(192);
  expect(chunk.tokens).toBeLessThanOrEqual(240);
});

test("chunks stay within their bounds, and decoding steps do not count", () => {
  const chunk = new ChunkSize(512);
  for (let i = 0; i < 50; i++) chunk.observe(1, 1000);
  expect(chunk.tokens).toBe(128);
  for (let i = 0; i < 50; i++) chunk.observe(64, 1000);
  expect(chunk.tokens).toBe(32);
  for (let i = 0; i < 50; i++) chunk.observe(64, 0.1);
  expect(chunk.tokens).toBe(512);
});
