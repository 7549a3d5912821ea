import { expect, test } from "vitest";
import { ChunkSize } from "./chunkSize.ts";

test("chunks approach what the machine computes in 32 ms, in whole cache blocks", () => {
  const chunk = new ChunkSize(512);
  for (let i = 0; i < 20; i++) chunk.observe(chunk.tokens, chunk.tokens / 8);
  expect(chunk.tokens).toBe(256);
});

test("chunks stay within their bounds, and decoding steps do not count", () => {
  const chunk = new ChunkSize(512);
  for (let i = 0; i < 50; i++) chunk.observe(1, 1000);
  expect(chunk.tokens).toBe(128);
  for (let i = 0; i < 50; i++) chunk.observe(chunk.tokens, 1000);
  expect(chunk.tokens).toBe(32);
  for (let i = 0; i < 50; i++) chunk.observe(chunk.tokens, 0.1);
  expect(chunk.tokens).toBe(512);
});

test("the short last step of a prompt does not make the chunks of the next prompt smaller", () => {
  const chunk = new ChunkSize(512);
  for (let i = 0; i < 20; i++) chunk.observe(256, 32);
  chunk.observe(40, 10);
  expect(chunk.tokens).toBe(256);
});
