import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, expect, test } from "vitest";
import { FakeModel, type FakeModelOptions } from "../../test/support/fakeModel.ts";
import { writeGguf } from "../../test/support/ggufWriter.ts";
import { tinyVocabulary } from "../../test/support/tinyVocabulary.ts";
import { integrityProblems } from "../kvcache/integrity.ts";
import { readGguf } from "../loader/gguf.ts";
import { Tokenizer } from "../tokenizer/tokenizer.ts";
import type { GenerationEvent, GenerationRequest } from "./request.ts";
import { Scheduler } from "./scheduler.ts";

const folder = mkdtempSync(join(tmpdir(), "tidepool-scheduler-"));
afterAll(() => rmSync(folder, { recursive: true }));
writeGguf(join(folder, "v.gguf"), tinyVocabulary().metadata, []);
const tokenizer = new Tokenizer(readGguf(join(folder, "v.gguf")));
const EOS = 1;

let current: FakeModel | undefined;
afterEach(() => {
  if (current !== undefined) expect(integrityProblems(current.kv)).toEqual([]);
});

/** By default the model writes "abcabc…" whatever came before. */
function start(options: Partial<FakeModelOptions> = {}) {
  const letters = tokenizer.encode("abc");
  const next = (tokens: readonly number[]) => letters[tokens.length % 3] ?? 0;
  const model = new FakeModel({ vocab: tokenizer.nTokens, next, ...options });
  const events = new Map<number, GenerationEvent[]>();
  const onEvent = (id: number, event: GenerationEvent) =>
    events.set(id, [...(events.get(id) ?? []), event]);
  const scheduler = new Scheduler({ model, tokenizer, ends: new Set([EOS]), onEvent });
  const run = () => {
    for (let i = 0; scheduler.step(); i++)
      if (i > 10_000) throw new Error("the scheduler never gets done");
  };
  const textOf = (id: number) =>
    (events.get(id) ?? []).map((e) => (e.type === "error" ? "" : e.text)).join("");
  const endOf = (id: number) => {
    const ends = (events.get(id) ?? []).filter((e) => e.type !== "delta");
    expect(ends.length).toBe(1);
    expect(events.get(id)?.at(-1)).toBe(ends[0]);
    return ends[0];
  };
  current = model;
  return { model, scheduler, run, textOf, endOf, events };
}

function request(id: number, changes: Partial<GenerationRequest> = {}): GenerationRequest {
  const sampling = { temperature: 0, topK: 0, topP: 1, seed: 0 };
  const prompt = Array.from({ length: 99 }, (_, i) => 10 + (i % 50));
  return {
    id,
    prompt,
    maxTokens: 6,
    sampling,
    stop: [],
    priority: "completion",
    nTop: 0,
    ...changes,
  };
}

test("generates to the limit and says what was computed", () => {
  const { scheduler, run, textOf, endOf } = start();
  scheduler.submit(request(1));
  run();
  expect(textOf(1)).toHaveLength(6);
  expect(endOf(1)).toMatchObject({
    type: "done",
    result: { finish: "limit", promptTokens: 99, cachedTokens: 0 },
  });
  scheduler.submit(request(2));
  run();
  expect(textOf(2)).toBe(textOf(1));
  expect(endOf(2)).toMatchObject({ result: { cachedTokens: 98 } });
});

test("the end token ends the text and is not part of it", () => {
  const { scheduler, run, textOf, endOf, events } = start({
    next: (t) => (t.length < 101 ? 80 : EOS),
  });
  scheduler.submit(request(1));
  run();
  expect(endOf(1)).toMatchObject({ result: { finish: "eos" } });
  expect(textOf(1)).toBe(tokenizer.decode([80, 80]));
  expect(events.get(1)?.flatMap((e) => (e.type === "delta" ? e.tokens : []))).toHaveLength(2);
});

test.each(["bc", "ca", "abca"])(
  "stops before a stop string %j, even one that spans tokens",
  (stop) => {
    const { scheduler, run, textOf, endOf } = start();
    scheduler.submit(request(1, { maxTokens: 20 }));
    scheduler.submit(request(2, { maxTokens: 20, stop: [stop] }));
    run();
    expect(textOf(2)).toBe(textOf(1).slice(0, textOf(1).indexOf(stop)));
    expect(endOf(2)).toMatchObject({ result: { finish: "word" } });
  },
);

test("text held back for a stop string that never comes is shown at the end", () => {
  const { scheduler, run, textOf } = start();
  scheduler.submit(request(1, { maxTokens: 5 }));
  scheduler.submit(request(2, { maxTokens: 5, stop: ["abcabcabcx", "bcabcabcax", "cabcabcabx"] }));
  run();
  expect(textOf(2)).toBe(textOf(1));
});

test("a completion overtakes a prefill at the next step", () => {
  const steps: number[] = [];
  const { scheduler, run, endOf, events } = start({ onStep: (parts) => steps.push(parts.length) });
  const long = Array.from({ length: 1500 }, (_, i) => 10 + (i % 90));
  scheduler.submit(request(1, { prompt: long, priority: "prefill", maxTokens: 0 }));
  scheduler.step();
  scheduler.step();
  scheduler.submit(request(2, { prompt: [9, 9] }));
  while (!events.has(2) || events.get(2)?.at(-1)?.type === "delta") scheduler.step();
  expect(events.has(1)).toBe(false);
  run();
  expect(endOf(1)).toMatchObject({ type: "done", result: { finish: "limit", promptTokens: 1500 } });
});

test("several requests run in one step and each gets its own text", () => {
  const widths: number[] = [];
  const { scheduler, run, textOf } = start({
    next: (t) => 60 + (t[0] ?? 0),
    onStep: (p) => widths.push(p.length),
  });
  for (let id = 1; id <= 4; id++) scheduler.submit(request(id, { prompt: [id, 20, 20] }));
  run();
  expect(Math.max(...widths)).toBe(4);
  for (let id = 1; id <= 4; id++)
    expect(textOf(id)).toBe(tokenizer.decode(new Array<number>(6).fill(60 + id)));
});

test("requests that do not fit the cache together all finish", () => {
  const { scheduler, run, textOf, model } = start({
    nBlocks: 5,
    contextLength: 256,
    next: (t) => 60 + ((t[0] ?? 0) % 20),
  });
  for (let id = 1; id <= 6; id++) {
    scheduler.submit(
      request(id, { prompt: [id, ...new Array<number>(150).fill(40)], maxTokens: 60 }),
    );
  }
  run();
  for (let id = 1; id <= 6; id++) expect(textOf(id)).toHaveLength(60);
  expect(model.kv.stats().blocksUsed).toBe(0);
});

test("200 start and cancel pairs leave nothing behind", () => {
  const { scheduler, run, endOf, model } = start();
  for (let id = 1; id <= 200; id++) {
    scheduler.submit(request(id, { maxTokens: 1000 }));
    for (let i = 0; i < id % 7; i++) scheduler.step();
    scheduler.cancel(id);
  }
  run();
  for (let id = 1; id <= 200; id++)
    expect(endOf(id)).toMatchObject({ result: { finish: "cancelled" } });
  expect(scheduler.counts).toEqual({ running: 0, waiting: 0 });
  expect(model.kv.stats().blocksUsed).toBe(0);
});

test("a step that fails ends its requests with an error and the next request works", () => {
  let broken = true;
  const { scheduler, run, endOf } = start({
    onStep: () => {
      if (broken) throw new Error("boom");
    },
  });
  scheduler.submit(request(1));
  run();
  expect(endOf(1)).toMatchObject({ type: "error", code: "internal", message: "boom" });
  broken = false;
  scheduler.submit(request(2));
  run();
  expect(endOf(2)).toMatchObject({ type: "done" });
});

test("a seed repeats a sampled text, and top tokens are reported", () => {
  const { scheduler, run, textOf, events } = start({ next: () => 70 });
  const sampling = { temperature: 8, topK: 0, topP: 1, seed: 3 };
  for (const id of [1, 2]) scheduler.submit(request(id, { sampling, nTop: 2 }));
  scheduler.submit(request(3, { sampling: { ...sampling, seed: 4 } }));
  run();
  expect(textOf(1)).toBe(textOf(2));
  expect(textOf(3)).not.toBe(textOf(1));
  const first = events.get(1)?.[0];
  expect(first?.type === "delta" && first.tokens[0]?.top.map((t) => t.id)[0]).toBe(70);
});

test("a prompt beyond the context is refused", () => {
  const { scheduler } = start({ contextLength: 64 });
  expect(() => scheduler.submit(request(1))).toThrow(/fewer than 64 tokens, found 99/);
});

test("text that stands before the cursor is generated again, and is no part of the answer", () => {
  const text = " return x";
  const answer = tokenizer.encode(text);
  const { scheduler, run, textOf, endOf, events } = start({
    next: (t) => answer[t.length - 99] ?? EOS,
  });
  scheduler.submit(request(1, { forced: new TextEncoder().encode(" ret") }));
  run();
  expect(textOf(1)).toBe("urn x");
  expect(endOf(1)).toMatchObject({ result: { finish: "eos" } });
  const tokens = events.get(1)?.flatMap((e) => (e.type === "delta" ? e.tokens : [])) ?? [];
  expect(tokens.map((t) => t.text).join("")).toBe("urn x");
  for (const { logProb } of tokens) expect(logProb).toBeLessThanOrEqual(0);
});

test.each(["z", " fu", "é", "    ", "zzzzzzzz"])(
  "a model that wants something else still begins with %j",
  (text) => {
    const forced = new TextEncoder().encode(text);
    const { scheduler, run, events, endOf } = start({ next: () => EOS });
    scheduler.submit(request(1, { forced, maxTokens: 3 }));
    run();
    expect(endOf(1)).toMatchObject({ type: "done", result: { finish: "eos" } });
    expect(events.get(1)?.filter((e) => e.type === "error")).toEqual([]);
  },
);

test("alternatives compute their prompt once, differ in their first token, and leave nothing behind", () => {
  let nComputed = 0;
  const { scheduler, run, textOf, model } = start({
    next: (t) => 70 + (t.length % 7),
    onStep: (parts) => {
      for (const part of parts) nComputed += part.tokens.length;
    },
  });
  scheduler.submit(request(1));
  for (const [i, id] of [2, 3].entries())
    scheduler.submit(request(id, { branch: i + 1, forkOf: 1 }));
  run();
  expect(new Set([1, 2, 3].map((id) => textOf(id).slice(0, 1))).size).toBe(3);
  expect(nComputed).toBeLessThanOrEqual(99 + 2 + 3 * 5);
  expect(model.kv.stats().blocksUsed).toBe(0);
});

test("an alternative goes on when the request whose prompt it shares is cancelled", () => {
  const { scheduler, run, endOf } = start();
  const prompt = Array.from({ length: 900 }, (_, i) => 10 + (i % 90));
  scheduler.submit(request(1, { prompt }));
  scheduler.submit(request(2, { prompt, branch: 1, forkOf: 1 }));
  scheduler.step();
  scheduler.cancel(1);
  run();
  expect(endOf(1)).toMatchObject({ result: { finish: "cancelled" } });
  expect(endOf(2)).toMatchObject({ result: { finish: "limit", promptTokens: 900 } });
});

test("a pinned prompt survives others that fill the cache, and its progress is told", () => {
  const { scheduler, run, endOf, model } = start({ nBlocks: 12, contextLength: 512 });
  const prompt = Array.from({ length: 300 }, (_, i) => 10 + (i % 90));
  const pin = { key: "w", nTokens: 256 };
  scheduler.submit(request(1, { prompt, pin, maxTokens: 0, priority: "prefill" }));
  expect(scheduler.prefill).toEqual({ done: 0, total: 300 });
  run();
  expect(scheduler.prefill).toBeUndefined();
  expect(model.kv.stats().tokensPinned).toBe(256);
  for (let id = 2; id < 20; id++) {
    scheduler.submit(request(id, { prompt: new Array<number>(450).fill(id) }));
    run();
  }
  scheduler.submit(request(99, { prompt }));
  run();
  expect(endOf(99)).toMatchObject({ result: { cachedTokens: 256 } });
});
