/**
 * Several tokens of one or several sequences in one step of the fused decoder, from the scheduler's plan to text, on an
 * emulated GPU: each as it would be alone. Few tokens: an emulated step takes about a second.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { loadEngineParts } from "../../engine/engine.ts";
import { integrityProblems } from "../../engine/kvcache/integrity.ts";
import { FusedModel } from "../../engine/model/fusedModel.ts";
import type { Model, StepLogits, StepPart } from "../../engine/model/model.ts";
import type { GenerationEvent, GenerationRequest } from "../../engine/scheduler/request.ts";
import { Scheduler } from "../../engine/scheduler/scheduler.ts";
import { emulatedGpu } from "../support/emulatedGpu.ts";
import { writeLiteFixture } from "../support/liteFixture.ts";

const dir = mkdtempSync(path.join(tmpdir(), "tidepool-drafts-"));
const file = path.join(dir, "lite.gguf");
Object.assign(process.env, emulatedGpu());

type Parts = ReturnType<typeof loadEngineParts>;
/** Of the same file, with a cache each: what is computed alone must not be read from the cache of the others. */
let alone: Parts;
let shared: Parts;
beforeAll(() => {
  writeLiteFixture(file, { converter: "old", seed: 1 });
  const load = () => loadEngineParts({ modelPath: file, device: "cuda", threads: 1 });
  [alone, shared] = [load(), load()];
});
afterAll(() => {
  for (const { model, backend } of [alone, shared]) {
    expect(model.kv.stats().blocksUsed).toBe(0);
    expect(integrityProblems(model.kv)).toEqual([]);
    backend.close();
  }
  rmSync(dir, { recursive: true });
});

/** A scheduler that keeps what it was told and what it computed. Its time is counted in tokens, not by a loaded machine. */
class Run {
  readonly steps: (readonly StepPart[])[] = [];
  readonly scheduler: Scheduler;
  private readonly events = new Map<number, GenerationEvent[]>();

  constructor({ model, tokenizer, fim }: Parts, drafts: boolean) {
    let clock = 0;
    const forward = (parts: readonly StepPart[]) => {
      this.steps.push(parts);
      clock += 1 + 0.2 * parts.reduce((sum, { tokens }) => sum + tokens.length, 0);
      return model.forward(parts);
    };
    this.scheduler = new Scheduler({
      model: Object.create(model, { forward: { value: forward } }) as Model,
      ...{ tokenizer, drafts, ends: fim.ends, now: () => clock },
      onEvent: (id, event) => this.events.set(id, [...(this.events.get(id) ?? []), event]),
    });
  }

  submit(id: number, prompt: readonly number[], maxTokens: number): void {
    const request: Omit<GenerationRequest, "id" | "prompt" | "maxTokens"> = {
      ...{ forced: new Uint8Array(), nTop: 0, stop: [], priority: "completion" },
      sampling: { temperature: 0, topK: 0, topP: 1, seed: 0 },
    };
    this.scheduler.submit({ ...request, id, prompt: [...prompt], maxTokens });
  }

  finish(): void {
    while (this.scheduler.step());
  }

  /** Reads prompts up to their last tokens, in parts that are decoded: their rows are those of tokens one by one. */
  prime(...prompts: (readonly number[])[]): void {
    for (const prompt of prompts) {
      for (let end = 6; end < prompt.length + 5; end += 6) {
        this.submit(0, prompt.slice(0, Math.min(end, prompt.length - 1)), 0);
        this.finish();
      }
    }
    this.steps.length = 0;
  }

  /** Ids and log-probabilities, text, and how it ended: exactly once. */
  answer(id: number) {
    const events = this.events.get(id) ?? [];
    const ends = events.flatMap((event) => (event.type === "done" ? [event.result.finish] : []));
    expect(events.filter(({ type }) => type !== "delta").length).toBe(1);
    const tokens = events.flatMap((event) => (event.type === "delta" ? event.tokens : []));
    const text = events.map((event) => (event.type === "error" ? event.message : event.text));
    return { text: text.join(""), tokens, ends };
  }
}

/** The model goes on with 151 once, and then with others: of the drafts one is right, the next is not. */
const half = [77, 77, 77, 77, 77, 77, 151, 151, 151, 151];
/** Here it goes on with 151: all drafts are wrong. */
const wrong = [77, 77, 77, 77, 77, 77];
/** More tokens than are decoded: read by prefill. */
const long = Array.from({ length: 12 }, (_, i) => 8 + ((i * 37) % 250));

function isRead({ tokens, nDrafts = 0 }: StepPart): boolean {
  return tokens.length - nDrafts > 8;
}

describe("generations with drafts", () => {
  let plain: Run;
  let together: Run;
  beforeAll(() => {
    plain = new Run(alone, false);
    plain.prime(half, wrong);
    plain.submit(1, half, 4);
    plain.finish();
    plain.submit(2, wrong, 4);
    plain.finish();
    plain.submit(3, long, 2);
    plain.finish();
    together = new Run(shared, true);
    together.prime(half, wrong);
    together.submit(1, half, 4);
    together.submit(2, wrong, 4);
    together.submit(4, wrong, 50);
    // They are admitted, then computed once.
    together.scheduler.step();
    together.scheduler.step();
    together.scheduler.cancel(4);
    together.submit(3, long, 2);
    together.finish();
  });

  test("give the tokens of those without, though some drafts are right and some wrong", () => {
    expect(shared.model).toBeInstanceOf(FusedModel);
    const run = new Run(shared, true);
    run.submit(1, half, 4);
    run.finish();
    expect(run.answer(1)).toEqual(plain.answer(1));
    expect(plain.answer(1).tokens.length).toBe(4);
    const { drafted, accepted } = run.scheduler.drafts;
    expect(accepted).toBeGreaterThan(0);
    expect(drafted).toBeGreaterThan(accepted);
    expect(run.steps.length).toBeLessThan(4);
    expect(plain.scheduler.drafts).toEqual({ drafted: 0, accepted: 0 });
  });

  test("are as alone beside each other, a prompt that is read, and one that is cancelled", () => {
    for (const id of [1, 2, 3]) expect(together.answer(id)).toEqual(plain.answer(id));
    expect(together.answer(4).ends).toEqual(["cancelled"]);
    expect(together.steps.some((parts) => parts.length === 3 && parts.some(isRead))).toBe(true);
  });

  test("share the room for drafts of a step", () => {
    const nDrafts = together.steps.map((parts) => parts.map((part) => part.nDrafts ?? 0));
    const sums = nDrafts.map((each) => each.reduce((sum, n) => sum + n, 0));
    expect(Math.max(...sums)).toBe(shared.model.maxStepDrafts);
    expect(nDrafts.some((each) => each.filter((n) => n > 0).length > 1)).toBe(true);
  });
});

describe("a step's rows of logits", () => {
  interface Kept extends StepPart {
    /** How many of its tokens stay. */
    nKept: number;
  }

  function compute(model: Model, parts: readonly Kept[]): StepLogits {
    for (const { sequence, tokens } of parts)
      expect(model.kv.reserve(sequence, sequence.tokens.length + tokens.length)).toBe(true);
    const logits = model.forward(parts);
    for (const { sequence, tokens, nKept } of parts)
      model.kv.commit(sequence, tokens.slice(0, nKept));
    return logits;
  }

  /** The row behind each of these parts of a sequence, a step each. */
  function rowsAlone(model: Model, parts: readonly (readonly number[])[]): Float32Array[] {
    const sequence = model.kv.acquire([]);
    const rows = parts.map((tokens) => {
      const nKept = tokens.length;
      return compute(model, [{ sequence, tokens, wantsLogits: true, nKept }]).row(0);
    });
    model.kv.release(sequence);
    return rows;
  }

  test("are those of drafts, of none, of a prompt and of one token, in the order of parts", () => {
    const { model } = alone;
    const drafted = rowsAlone(model, [[30], [40], [50]]);
    const unwanted = rowsAlone(model, [[60], [61]]);
    const want = [...drafted, ...rowsAlone(model, [long]), ...rowsAlone(model, [[70]])];
    const [a, b] = [model.kv.acquire([]), model.kv.acquire([])];
    const [c, d] = [model.kv.acquire([]), model.kv.acquire([])];
    const logits = compute(model, [
      { sequence: a, tokens: [30, 40, 50], wantsLogits: true, nDrafts: 2, nKept: 2 },
      { sequence: b, tokens: [60], wantsLogits: false, nKept: 1 },
      { sequence: c, tokens: long, wantsLogits: true, nKept: long.length },
      { sequence: d, tokens: [70], wantsLogits: true, nKept: 1 },
    ]);
    expect(want.map((_, i) => logits.row(i))).toEqual(want);
    const best = want.map((row) => row.indexOf(row.reduce((most, value) => Math.max(most, value))));
    expect([...logits.greedy().ids]).toEqual(best);
    // The rejected draft's place in the cache is taken by the next token; rows that nobody wanted are cached all the same.
    const next = compute(model, [
      { sequence: b, tokens: [61], wantsLogits: true, nKept: 1 },
      { sequence: a, tokens: [51], wantsLogits: false, nKept: 0 },
    ]);
    expect(next.row(0)).toEqual(unwanted[1]);
    const again = compute(model, [{ sequence: a, tokens: [50], wantsLogits: true, nKept: 1 }]);
    expect(again.row(0)).toEqual(drafted[2]);
    for (const sequence of [a, b, c, d]) model.kv.release(sequence);
  });
});
