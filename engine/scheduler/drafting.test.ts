import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { FakeModel } from "../../test/support/fakeModel.ts";
import { writeGguf } from "../../test/support/ggufWriter.ts";
import { tinyVocabulary } from "../../test/support/tinyVocabulary.ts";
import { integrityProblems } from "../kvcache/integrity.ts";
import { readGguf } from "../loader/gguf.ts";
import { seededRandom } from "../sampling/sampler.ts";
import { Tokenizer } from "../tokenizer/tokenizer.ts";
import type { GeneratedToken, GenerationRequest, GenerationResult } from "./request.ts";
import { Scheduler } from "./scheduler.ts";

const folder = mkdtempSync(join(tmpdir(), "tidepool-drafting-"));
afterAll(() => rmSync(folder, { recursive: true }));
writeGguf(join(folder, "v.gguf"), tinyVocabulary().metadata, []);
const tokenizer = new Tokenizer(readGguf(join(folder, "v.gguf")));
const EOS = 1;

interface Answer {
  text: string;
  tokens: GeneratedToken[];
  result: GenerationResult | undefined;
}

/** Mostly copies what followed the last two tokens before, sometimes not, and seldom ends. */
function copyist(tokens: readonly number[]): number {
  const random = seededRandom(tokens.reduce((sum, token) => (sum * 31 + token) | 0, tokens.length));
  const [a, b] = tokens.slice(-2);
  const at = tokens.findIndex((token, i) => token === a && tokens[i + 1] === b);
  if (random() < 0.02) return EOS;
  return random() < 0.85 ? (tokens[at + 2] ?? 5) : 10 + Math.floor(random() * 90);
}

/** Runs requests, `meanwhile` after each step; a step takes 1 ms and 0.1 for each token. */
function answers(
  requests: readonly GenerationRequest[],
  drafts: boolean,
  options: {
    nBlocks?: number;
    next?: (tokens: readonly number[]) => number;
    cancelAt?: number;
  } = {},
) {
  let clock = 0;
  let nSteps = 0;
  const found = new Map<number, Answer>();
  const model = new FakeModel({
    ...{ vocab: tokenizer.nTokens, next: copyist, nDrafts: 16, ...options },
    onStep: (parts) => {
      clock += 1 + 0.1 * parts.reduce((sum, part) => sum + part.tokens.length, 0);
      nSteps++;
    },
  });
  const scheduler = new Scheduler({
    ...{ model, tokenizer, drafts, ends: new Set([EOS]), now: () => clock },
    onEvent: (id, event) => {
      const answer = found.get(id) ?? { text: "", tokens: [], result: undefined };
      found.set(id, answer);
      expect(answer.result).toBeUndefined();
      if (event.type === "error") throw new Error(event.message);
      answer.text += event.text;
      if (event.type === "delta") answer.tokens.push(...event.tokens);
      else answer.result = event.result;
    },
  });
  for (const request of requests) scheduler.submit(request);
  for (let i = 0; scheduler.step(); i++) {
    if (i === options.cancelAt) for (const { id } of requests) scheduler.cancel(id);
    if (i > 20_000) throw new Error("the scheduler never gets done");
  }
  expect(integrityProblems(model.kv)).toEqual([]);
  expect(model.kv.stats().blocksUsed).toBe(0);
  return { found, nSteps, ms: clock, counts: scheduler.drafts };
}

function request(id: number, changes: Partial<GenerationRequest> = {}): GenerationRequest {
  const random = seededRandom(id);
  const line = Array.from({ length: 30 }, () => 10 + Math.floor(random() * 90));
  return {
    ...{ id, prompt: [...line, ...line, ...line.slice(0, 7)], maxTokens: 60, stop: [], nTop: 0 },
    ...{
      sampling: { temperature: 0, topK: 0, topP: 1, seed: id },
      priority: "completion",
      ...changes,
    },
  };
}

/** What a client sees, without times and counts of drafts. */
function seen({ found }: ReturnType<typeof answers>) {
  return [...found].map(([id, { text, tokens, result }]) => [id, text, tokens, result?.finish]);
}

const some = (nRequests: number, changes: Partial<GenerationRequest> = {}) =>
  Array.from({ length: nRequests }, (_, i) => request(i + 1, changes));

describe("answers are those without drafts", () => {
  test.each<[string, GenerationRequest[], Parameters<typeof answers>[2]]>([
    ["greedy, one by one", some(1, { maxTokens: 300 }), {}],
    ["greedy, several in a step", some(7), {}],
    [
      "sampled with a seed",
      some(7, { sampling: { temperature: 3, topK: 9, topP: 0.9, seed: 5 } }),
      {},
    ],
    ["with stop strings", some(7, { stop: ["ab", "q", "e_"] }), {}],
    ["with forced text", some(7, { forced: new TextEncoder().encode("re") }), {}],
    ["with small limits", [1, 2, 3, 4, 5].map((n) => request(n, { maxTokens: n })), {}],
    ["with alternatives", some(7, { nTop: 3, maxTokens: 20 }), {}],
    ["in other branches", [request(1), request(1.5, { branch: 1, forkOf: 1 })], {}],
    ["in a cache that is too small for all", some(7, { maxTokens: 90 }), { nBlocks: 8 }],
    ["up to the end of the context", some(2, { maxTokens: 9999 }), { next: () => 30 }],
  ])("%s", (_name, requests, options) => {
    const plain = answers(requests, false, options);
    const drafted = answers(requests, true, options);
    expect(seen(drafted)).toEqual(seen(plain));
    expect(plain.counts.drafted).toBe(0);
    const inMany = requests.some(({ maxTokens }) => maxTokens > 9);
    expect(drafted.counts.accepted > 0 || !inMany).toBe(true);
    expect(drafted.nSteps).toBeLessThanOrEqual(plain.nSteps);
  });
});

test("a cancelled request ends at the next step, with the beginning of the whole answer", () => {
  const [whole, cut] = [answers(some(3), true), answers(some(3), true, { cancelAt: 4 })];
  for (const [id, { text, result }] of cut.found) {
    expect(result?.finish).toBe("cancelled");
    expect(whole.found.get(id)?.text.startsWith(text)).toBe(true);
  }
});

test("counts say what was guessed and what was right, of each request and of all", () => {
  const { found, counts } = answers(some(5), true);
  const results = [...found.values()].map(({ result }) => result?.drafts);
  const sum = (what: "drafted" | "accepted") =>
    results.reduce((total, drafts) => total + (drafts?.[what] ?? 0), 0);
  expect({ drafted: sum("drafted"), accepted: sum("accepted") }).toEqual(counts);
  expect(counts.accepted).toBeGreaterThan(20);
  expect(counts.accepted).toBeLessThan(counts.drafted);
});

test("a text that repeats nothing has no drafts, and one whose guesses are always wrong takes hardly longer", () => {
  const other = (tokens: readonly number[]) => 10 + ((tokens.length * 37) % 90);
  expect(answers([request(1, { prompt: [9, 9] })], true, { next: other }).counts.drafted).toBe(0);
  const wrong = (tokens: readonly number[]) => {
    const copy = tokens.lastIndexOf(tokens.at(-1) ?? 0, -2);
    return 10 + (((tokens[copy + 1] ?? 0) + 35) % 90);
  };
  const requests = [request(1, { maxTokens: 300 })];
  const [plain, drafted] = [false, true].map((on) => answers(requests, on, { next: wrong }));
  expect(drafted?.counts.drafted).toBeGreaterThan(0);
  expect((drafted?.ms ?? Number.NaN) / (plain?.ms ?? 0)).toBeLessThan(1.1);
});
