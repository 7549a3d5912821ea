import { expect, test } from "vitest";
import { Drafter } from "./drafter.ts";
import { draftLength } from "./draftLength.ts";

const NO_ENDS: ReadonlySet<number> = new Set();
const copied = Array.from({ length: 40 }, (_, i) => 100 + i);
const repeated = [...copied, 7, 8, ...copied.slice(0, 12)];

test("guesses what followed the same tokens, surer the longer the match", () => {
  const { tokens, chances } = new Drafter(repeated, NO_ENDS).propose(5);
  expect(tokens).toEqual(copied.slice(12, 17));
  expect(chances[0]).toBeCloseTo(1 - 0.75 / 12);
  const [short] = new Drafter([...copied, 7, 8, ...copied.slice(0, 3)], NO_ENDS).propose(5).chances;
  expect(short).toBeCloseTo(0.75);
});

test("ends before an end token, and goes on with itself where a text repeats a few tokens", () => {
  expect(new Drafter(repeated, new Set([114])).propose(9).tokens).toEqual([112, 113]);
  expect(new Drafter([1, 2, 1, 2, 1, 2, 1], NO_ENDS).propose(5).tokens).toEqual([2, 1, 2, 1, 2]);
});

test("a chance is never above that of the token before it, and less where earlier places disagree", () => {
  const tokens = [1, 2, 3, 50, 1, 2, 3, 60, 1, 2, 3];
  const { chances } = new Drafter(tokens, NO_ENDS).propose(4);
  expect(chances[0]).toBeCloseTo(0.75 * Math.SQRT1_2);
  for (const [i, chance] of chances.entries())
    expect(chance).toBeLessThanOrEqual(chances[i - 1] ?? 1);
});

test("drafts become shorter when they are rejected, and longer again when they are right", () => {
  const drafter = new Drafter(repeated, NO_ENDS);
  const cost = (nTokens: number) => 1 + 0.3 * (nTokens - 1);
  const length = () => draftLength(drafter.propose(16).chances, { nTokens: 1, nExpected: 1 }, cost);
  const first = length();
  expect(first).toBe(8);
  drafter.observe(drafter.propose(16), 4, 0);
  expect(length()).toBeLessThan(first / 2);
  for (let i = 0; i < 20; i++) drafter.observe(drafter.propose(16), 4, 0);
  expect(length()).toBe(0);
  for (let i = 0; i < 40; i++) drafter.observe(drafter.propose(16), 8, 8);
  expect(length()).toBeGreaterThanOrEqual(first);
});

test("a draft is as long as the step gives more tokens per time, and none where it would not", () => {
  const alone = { nTokens: 1, nExpected: 1 };
  const lite = (nTokens: number) => [0, 1, 1.5, 1.9, 2.36, 2.7, 3, 3.3, 3.65][nTokens] ?? 99;
  const chances = (p: number) => Array.from({ length: 7 }, (_, i) => p ** (i + 1));
  expect(draftLength(chances(0.95), alone, lite)).toBe(7);
  expect(draftLength(chances(0.45), alone, lite)).toBe(0);
  expect(draftLength([], alone, lite)).toBe(0);
  // Beside seven other sequences a token more costs little of the step.
  const busy = { nTokens: 8, nExpected: 8 };
  expect(draftLength([0.45], busy, (n) => 3.65 + 0.1 * (n - 8))).toBe(1);
});
