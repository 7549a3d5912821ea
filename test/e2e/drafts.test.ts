/** Drafts change no answer: steps of several tokens have the bits of steps of one, and rejected tokens leave nothing. */
import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, test } from "vitest";
import { Backend } from "../../engine/backend/backend.ts";
import type { BackendOptions } from "../../engine/backend/params.ts";
import { loadEngineParts } from "../../engine/engine.ts";
import { integrityProblems } from "../../engine/kvcache/integrity.ts";
import type { KvSequence } from "../../engine/kvcache/pagedKv.ts";
import { readGguf } from "../../engine/loader/gguf.ts";
import { MlaMoeModel } from "../../engine/model/mlaMoe.ts";
import type { Model, StepPart } from "../../engine/model/model.ts";
import { buildInfillPrompt } from "../../engine/prompt/infillPrompt.ts";
import { ParagraphCache } from "../../engine/prompt/paragraphCache.ts";
import type {
  GeneratedToken,
  GenerationRequest,
  GenerationResult,
} from "../../engine/scheduler/request.ts";
import { Scheduler } from "../../engine/scheduler/scheduler.ts";
import { emulatedGpu } from "../support/emulatedGpu.ts";

const root = path.resolve(import.meta.dirname, "../..");
const fixtures = path.join(root, "test/fixtures/vectors");
const mini = path.join(root, "engine/models/tidepool-mini.gguf");
const tiny = path.join(fixtures, "tiny-f32.gguf");
Object.assign(process.env, emulatedGpu());

/** Logits after the first of `tokens`, which is sure, and after each of the others, which are drafts. */
function step(model: MlaMoeModel, sequence: KvSequence, tokens: readonly number[], nRight: number) {
  const nDrafts = tokens.length - 1;
  expect(model.kv.reserve(sequence, sequence.tokens.length + tokens.length)).toBe(true);
  const logits = model.forward([{ sequence, tokens, wantsLogits: true, nDrafts }]);
  const rows = tokens.map((_, i) => logits.row(i));
  model.kv.commit(sequence, tokens.slice(0, 1 + nRight));
  return rows;
}

function bytesOf(row: Float32Array): Buffer {
  return Buffer.from(row.buffer, row.byteOffset, row.byteLength);
}

/** The bits of `tokens` decoded one by one behind `prompt`, and in steps with right and wrong drafts. */
function expectSameBits(model: MlaMoeModel, nPrompt: number, nDecoded: number) {
  const vocab = Math.min(model.vocab, 250);
  const all = Array.from(
    { length: nPrompt + nDecoded },
    // Others for each prompt: a block that is cached from a prompt cut in another way has other bits.
    (_, i) => 3 + ((i * i + 7 * i + nPrompt) % (vocab - 3)),
  );
  const start = () => {
    const sequence = model.kv.acquire([]);
    for (let at = 0; at < nPrompt; at += 512) {
      const tokens = all.slice(at, Math.min(nPrompt, at + 512));
      expect(model.kv.reserve(sequence, at + tokens.length)).toBe(true);
      model.forward([{ sequence, tokens, wantsLogits: false }]);
      model.kv.commit(sequence, tokens);
    }
    return sequence;
  };
  const single = start();
  const want = all.slice(nPrompt).flatMap((token) => step(model, single, [token], 0));
  model.kv.release(single);
  const drafted = start();
  const got: Float32Array[] = [];
  for (let i = 0; got.length < nDecoded; i++) {
    const at = nPrompt + got.length;
    const nRight = Math.min([0, 1, 2, 4, 7, 15, 31][i % 7] ?? 0, nDecoded - got.length - 1);
    const wrong = i % 2 === 0 ? [5, 6, 7, 8].slice(0, 31 - nRight) : [];
    const rows = step(model, drafted, [...all.slice(at, at + 1 + nRight), ...wrong], nRight);
    got.push(...rows.slice(0, 1 + nRight));
  }
  model.kv.release(drafted);
  got.forEach((row, i) => {
    const isSame = bytesOf(row).equals(bytesOf(want[i] ?? new Float32Array()));
    expect(isSame, `token ${i} behind ${nPrompt}`).toBe(true);
  });
  expect(integrityProblems(model.kv)).toEqual([]);
}

describe("a step of several tokens has the bits of steps of one", () => {
  const isas = ["avx512", "avx2", "scalar"] as const;
  test.each<[string, string, BackendOptions, number[], number]>([
    ...isas.map((isa): [string, string, BackendOptions, number[], number] => [
      `tidepool-mini on the CPU, ${isa}`,
      mini,
      { device: "cpu", nThreads: 2, isa },
      isa === "scalar" ? [30] : [1, 62, 1500],
      isa === "scalar" ? 16 : 50,
    ]),
    [
      "a deepseek2 file on the CPU",
      path.join(fixtures, "deepseek2-lite.gguf"),
      { device: "cpu" },
      [1, 100],
      70,
    ],
    ["op by op on the emulated GPU", tiny, { device: "cuda" }, [20], 12],
  ])("%s", (_name, file, options, prompts, nDecoded) => {
    let backend: Backend;
    try {
      backend = Backend.open(options);
    } catch (error) {
      // A machine without this instruction set has nothing to compare.
      expect(String(error)).toMatch(/avx/);
      return;
    }
    const model = new MlaMoeModel(backend, readGguf(file), { contextLength: 2048 });
    for (const nPrompt of prompts) expectSameBits(model, nPrompt, nDecoded);
    backend.close();
  });
});

interface Answer {
  text: string;
  tokens: GeneratedToken[];
  result: GenerationResult | undefined;
}

/**
 * Runs groups of requests one after the other, each group at once, on a cache of their own. Time is counted in tokens: how
 * a prompt is cut, which rounding depends on, must not depend on the machine's load.
 */
function answers(groups: readonly (readonly GenerationRequest[])[], drafts: boolean): Answer[] {
  const found: Answer[] = [];
  const { tokenizer, fim, model, backend } = loadEngineParts({
    modelPath: mini,
    device: "cpu",
    threads: 2,
  });
  let clock = 0;
  const forward = (parts: readonly StepPart[]) => {
    clock += 1 + 0.2 * parts.reduce((sum, { tokens }) => sum + tokens.length, 0);
    return model.forward(parts);
  };
  const timed = Object.create(model, { forward: { value: forward } }) as Model;
  const scheduler = new Scheduler({
    ...{ model: timed, tokenizer, drafts, ends: fim.ends, now: () => clock },
    onEvent: (id, event) => {
      const answer = found[id] ?? { text: "", tokens: [], result: undefined };
      found[id] = answer;
      if (event.type === "error") throw new Error(event.message);
      answer.text += event.text;
      if (event.type === "delta") answer.tokens.push(...event.tokens);
      else answer.result = event.result;
    },
  });
  for (const group of groups) {
    for (const request of group) scheduler.submit(request);
    while (scheduler.step());
  }
  expect(model.kv.stats().blocksUsed).toBe(0);
  expect(integrityProblems(model.kv)).toEqual([]);
  backend.close();
  return found;
}

describe("tidepool-mini answers the same with drafts and without", () => {
  const { tokenizer, fim, backend } = loadEngineParts({
    modelPath: mini,
    device: "cpu",
    threads: 1,
  });
  backend.close();
  const files = ["engine/kvcache", "engine/scheduler"].flatMap((folder) =>
    readdirSync(path.join(root, folder)).map((name) => path.join(root, folder, name)),
  );
  const requests = files.slice(0, 7).map((file, id): GenerationRequest => {
    const text = readFileSync(file, "utf8");
    const at = Math.floor(text.length * 0.6);
    const prefix = text.slice(Math.max(0, at - 2000), at);
    const suffix = text.slice(at + 200, at + 900);
    const parts = { prefix, suffix, filename: path.basename(file), extra: [], heal: true };
    const { tokens, forced } = buildInfillPrompt(parts, fim, new ParagraphCache(tokenizer), 2000);
    return {
      ...{ id, prompt: tokens, forced: new TextEncoder().encode(forced), maxTokens: 48, nTop: 0 },
      ...{
        sampling: { temperature: 0, topK: 0, topP: 1, seed: 0 },
        stop: [],
        priority: "completion",
      },
    };
  });
  const seen = (of: readonly Answer[]) =>
    JSON.stringify(of.map(({ text, tokens, result }) => [text, tokens, result?.finish]));
  const sum = (of: readonly Answer[], what: "drafted" | "accepted") =>
    of.reduce((total, { result }) => total + (result?.drafts[what] ?? 0), 0);

  test.each<[string, Partial<GenerationRequest>]>([
    ["greedy", {}],
    ["sampled", { sampling: { temperature: 0.7, topK: 20, topP: 0.95, seed: 11 } }],
    ["with stop strings and alternatives", { stop: ["\n\n", ";"], nTop: 2 }],
  ])("%s", (_name, changes) => {
    const each = requests.map((request) => ({ ...request, ...changes }));
    // Prompts of a group are read one by one beforehand: beside others, drafts would change where they are cut.
    const group = each.slice(4).map((request) => ({ ...request, id: request.id + 100 }));
    // Not to their ends: of two equal blocks the cache keeps one, and its last row may be of a longer step.
    const start = ({ id, prompt }: GenerationRequest) => ({
      id: id + 100,
      prompt: prompt.slice(0, -2),
    });
    const prompts = group.map((request) => [{ ...request, ...start(request), maxTokens: 0 }]);
    const groups = [...each.slice(0, 4).map((request) => [request]), ...prompts, group];
    const [plain, drafted] = [answers(groups, false), answers(groups, true)];
    expect(seen(drafted) === seen(plain)).toBe(true);
    expect(sum(plain, "drafted")).toBe(0);
    expect(sum(drafted, "accepted")).toBeGreaterThan(20);
  });
});
