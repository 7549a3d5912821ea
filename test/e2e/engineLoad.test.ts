/** Cancelled requests and streams beside a long prompt: many on a model without arithmetic, few on the emulated GPU. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Backend } from "../../engine/backend/backend.ts";
import { LITE_CONFIG } from "../../engine/bench/randomLite.ts";
import { readGguf } from "../../engine/loader/gguf.ts";
import { FusedModel } from "../../engine/model/fusedModel.ts";
import { Tokenizer } from "../../engine/tokenizer/tokenizer.ts";
import { cancelMany, type LoadedModel, streamBesidePrompt } from "../gpu/engineLoad.ts";
import { emulatedGpu } from "../support/emulatedGpu.ts";
import { FakeModel } from "../support/fakeModel.ts";

Object.assign(process.env, emulatedGpu());
const tokenizer = new Tokenizer(readGguf("engine/models/tidepool-mini.gguf"));

describe("a model without arithmetic", () => {
  /** Its next token depends on all before it, so that a row of another request shows. */
  const next = (tokens: readonly number[]) =>
    tokens.reduce((sum, token) => (sum * 31 + token + 7) % 241, 1);
  let free = 1e9;
  const made = () => {
    const model = new FakeModel({ vocab: 256, nBlocks: 96, contextLength: 4096, nDrafts: 7, next });
    return { model, tokenizer, freeBytes: () => free };
  };

  test("keeps nothing of 1000 requests that are cancelled", () => {
    const sizes = { requests: 1000, together: 8, longestPrompt: 300, steps: 12 };
    const { problems, streamed } = cancelMany(made(), sizes, 1);
    expect(problems).toEqual([]);
    expect(streamed).toBeGreaterThan(300);
    expect(streamed).toBeLessThan(950);
  });

  test("is told what a leak leaves: blocks and sequences, and memory of the device", () => {
    const { model, ...rest } = made();
    const sizes = { requests: 3, together: 2, longestPrompt: 20, steps: 3 };
    const leaky = {
      ...{ model, ...rest },
      freeBytes: () => {
        free -= 64;
        return free;
      },
    };
    model.kv.reserve(model.kv.acquire([]), 5);
    expect(cancelMany(leaky, sizes, 1).problems).toEqual([
      "1 blocks of the cache are left",
      "1 sequences are left",
      "64 bytes of device memory are gone",
    ]);
  });

  test("streams to two clients what each gets alone, while a prompt is read", () => {
    const found = streamBesidePrompt(made(), { prompt: 65, answer: 40, longPrompt: 3000 });
    expect(found.equalAnswers).toBe(true);
    expect(found.readBeside).toBeGreaterThan(0);
  });
});

describe("the fused model on the emulated GPU", () => {
  let backend: Backend;
  let loaded: LoadedModel;
  beforeAll(() => {
    backend = Backend.open({ device: "cuda" });
    const config = {
      ...LITE_CONFIG,
      ...{ vocab: 320, hidden: 64, nLayers: 1, nDenseLayers: 0 },
      moe: { ...LITE_CONFIG.moe, nExperts: 2, topK: 1, ff: 64, sharedFf: 64 },
    };
    const model = FusedModel.random(backend, config, "q8_0", { contextLength: 1024 });
    // The first step makes scratch memory, which stays.
    const sequence = model.kv.acquire([]);
    model.kv.reserve(sequence, 1);
    model.forward([{ sequence, tokens: [1], wantsLogits: true }]).greedy();
    model.kv.release(sequence);
    loaded = { model, tokenizer, freeBytes: () => backend.deviceMemory()?.freeBytes ?? 0 };
  });
  afterAll(() => backend.close());

  test("keeps nothing of requests that are cancelled", () => {
    const sizes = { requests: 6, together: 3, longestPrompt: 20, steps: 3 };
    expect(loaded.freeBytes()).toBeGreaterThan(0);
    const { problems, streamed } = cancelMany(loaded, sizes, 1);
    expect(problems).toEqual([]);
    expect(streamed).toBeGreaterThan(0);
  });

  test("streams to two clients what each gets alone, while a prompt is read", () => {
    const found = streamBesidePrompt(loaded, { prompt: 65, answer: 3, longPrompt: 70 });
    expect(found.equalAnswers).toBe(true);
    expect(Math.max(...found.gapMs)).toBeGreaterThan(0);
  });
});
