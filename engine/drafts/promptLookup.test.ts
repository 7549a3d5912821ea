import { expect, test } from "vitest";
import { seededRandom } from "../sampling/sampler.ts";
import { KEY_TOKENS, LONGEST_MATCH, PromptLookup } from "./promptLookup.ts";

test("finds the longest match, and of several the latest", () => {
  const tokens = [1, 2, 3, 4, 50, 9, 2, 3, 4, 60, 9, 2, 3, 4, 70, 1, 2, 3, 4];
  expect(new PromptLookup(tokens).find()).toMatchObject({ at: 4, length: 4 });
  const twice = [5, 2, 3, 4, 50, 6, 2, 3, 4, 60, 7, 2, 3, 4];
  expect(new PromptLookup(twice).find()).toEqual({ at: 9, length: 3, agreement: 0.5 });
});

test("finds nothing behind fewer tokens than a key has, or where nothing is repeated", () => {
  expect(new PromptLookup([]).find()).toBeUndefined();
  expect(new PromptLookup([1, 1, 1]).find()).toBeUndefined();
  expect(new PromptLookup([1, 2, 3, 4, 2, 3]).find()).toBeUndefined();
});

test("agrees with a search through everything, while the text grows", () => {
  const random = seededRandom(4);
  const tokens: number[] = [];
  const lookup = new PromptLookup(tokens);
  let nFound = 0;
  for (let i = 0; i < 2000; i++) {
    tokens.push(random() < 0.5 && i > 200 ? (tokens[i - 97] ?? 0) : Math.floor(random() * 40_000));
    if (random() < 0.3) continue;
    const longest = longestBefore(tokens);
    const match = lookup.find();
    expect(match?.length ?? 0).toBe(longest >= KEY_TOKENS ? Math.min(longest, LONGEST_MATCH) : 0);
    if (match !== undefined) nFound++;
  }
  expect(nFound).toBeGreaterThan(50);
});

function longestBefore(tokens: readonly number[]): number {
  const end = tokens.length;
  let longest = 0;
  for (let at = 1; at < end; at++) {
    let n = 0;
    while (n < at && tokens[at - 1 - n] === tokens[end - 1 - n]) n++;
    longest = Math.max(longest, n);
  }
  return longest;
}
