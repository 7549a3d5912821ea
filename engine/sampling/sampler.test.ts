import { expect, test } from "vitest";
import { sampleToken, seededRandom, topTokens } from "./sampler.ts";

const logits = new Float32Array([1, 3, 2, 3, -50]);
const all = { topK: 0, topP: 1, temperature: 1, seed: 0 };

function counts(params: Partial<typeof all>, n = 4000): number[] {
  const random = seededRandom(5);
  const seen = [0, 0, 0, 0, 0];
  for (let i = 0; i < n; i++) {
    const { id } = sampleToken(logits, { ...all, ...params }, random);
    seen[id] = (seen[id] ?? 0) + 1;
  }
  return seen.map((count) => count / n);
}

test("top tokens come with their log-probabilities, ties by the lowest id", () => {
  const top = topTokens(logits, 3);
  expect(top.map((t) => t.id)).toEqual([1, 3, 2]);
  const norm = Math.log([...logits].reduce((sum, v) => sum + Math.exp(v), 0));
  expect(top[0]?.logProb).toBeCloseTo(3 - norm, 5);
});

test("tokens are drawn with their probabilities", () => {
  const z = [1, 3, 2, 3].reduce((sum, v) => sum + Math.exp(v), 0);
  const seen = counts({});
  expect(seen[1]).toBeCloseTo(Math.exp(3) / z, 1);
  expect(seen[0]).toBeCloseTo(Math.exp(1) / z, 1);
});

test("top-k and top-p cut the tail, and keep at least one token", () => {
  expect(counts({ topK: 2 }).map((p) => p > 0)).toEqual([false, true, false, true, false]);
  expect(counts({ topP: 0.01 })[1]).toBe(1);
  expect(counts({ temperature: 0.01 })[2]).toBe(0);
});

test("a seed repeats its numbers and another seed does not", () => {
  const draw = (seed: number) => Array.from({ length: 5 }, seededRandom(seed));
  expect(draw(1)).toEqual(draw(1));
  expect(draw(1)).not.toEqual(draw(2));
});
