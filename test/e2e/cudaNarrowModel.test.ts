/**
 * The bundled model's fused CUDA path from its file to logits, on an emulated GPU, beside the CPU and beside the ops on the
 * same GPU. The CPU is tied to PyTorch by agreement.test.ts. Few tokens: an emulated step takes about a second.
 * Lengths around the limits of window, blocks and pooled rows: cuda_narrow (engine/native/tests).
 */
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Engine, loadEngineParts } from "../../engine/engine.ts";
import { greedyInput } from "../../engine/engineRun.ts";
import { integrityProblems } from "../../engine/kvcache/integrity.ts";
import { type GgufFile, readGguf } from "../../engine/loader/gguf.ts";
import { FusedModel } from "../../engine/model/fusedModel.ts";
import { fusedObstacle } from "../../engine/model/fusedWeights.ts";
import { planGpuMemory } from "../../engine/model/gpuMemoryPlan.ts";
import type { Model } from "../../engine/model/model.ts";
import { parseMlaMoeConfig } from "../../engine/model/parseConfig.ts";
import type { GenerationEvent } from "../../engine/scheduler/request.ts";
import { emulatedGpu } from "../support/emulatedGpu.ts";
import { errorOf } from "../support/errorOf.ts";

const MODEL = path.resolve(import.meta.dirname, "../../engine/models/tidepool-mini.gguf");
const CONTEXT = 512;
Object.assign(process.env, emulatedGpu());

const load = (device: "cpu" | "cuda") =>
  loadEngineParts({ modelPath: MODEL, device, threads: 2, contextLength: CONTEXT });
let gpu: ReturnType<typeof load>;
let cpu: ReturnType<typeof load>;
beforeAll(() => {
  gpu = load("cuda");
  cpu = load("cpu");
});
afterAll(() => {
  expect(integrityProblems(gpu.model.kv)).toEqual([]);
  gpu.backend.close();
  cpu.backend.close();
});

/** Logits behind `tokens`, the last `nDecoded` of which come one by one. */
function logitsOf(model: Model, tokens: readonly number[], nDecoded: number): Float32Array {
  const sequence = model.kv.acquire([]);
  const nRead = tokens.length - nDecoded;
  const parts = [tokens.slice(0, nRead), ...tokens.slice(nRead).map((token) => [token])];
  let row: Float32Array = new Float32Array();
  for (const part of parts.filter(({ length }) => length > 0)) {
    expect(model.kv.reserve(sequence, sequence.tokens.length + part.length)).toBe(true);
    row = model.forward([{ sequence, tokens: part, wantsLogits: true }]).row(0);
    model.kv.commit(sequence, part);
  }
  model.kv.release(sequence);
  return row;
}

/** All is f32 but the cache's rows, which are f16 on both. */
const MOST_ERROR = 0.005;

describe("the bundled model", () => {
  test("runs in fused kernels, and says what it takes of the GPU's memory", () => {
    expect(gpu.model).toBeInstanceOf(FusedModel);
    expect(gpu.notes).toEqual([expect.stringMatching(/^GPU memory: /)]);
  });

  test("takes no more of the GPU's memory than was planned", () => {
    const { backend } = gpu;
    const gguf = readGguf(MODEL);
    const config = parseMlaMoeConfig(gguf);
    const plan = planGpuMemory({ backend, gguf, config, fused: true }, CONTEXT);
    const memory = backend.deviceMemory() ?? { freeBytes: 0, totalBytes: 0 };
    expect(memory.totalBytes - memory.freeBytes).toBeLessThanOrEqual(plan.total);
  });

  test("gives the CPU's logits behind tokens of which some were read at once and others decoded", () => {
    const tokens = gpu.tokenizer.encode("function sum(values: number[]) {").slice(0, 6);
    const want = logitsOf(cpu.model, tokens, 0);
    expect(errorOf(logitsOf(gpu.model, tokens, 2), want)).toBeLessThan(MOST_ERROR);
    // Far from those of other tokens: the comparison can fail.
    expect(errorOf(logitsOf(cpu.model, tokens.slice(1), 0), want)).toBeGreaterThan(0.1);
  });

  test("computes sequences of one step as each alone", () => {
    const { model } = gpu;
    const alone = [30, 31].map((token) => logitsOf(model, [token], 1));
    const parts = [30, 31].map((token) => {
      const sequence = model.kv.acquire([]);
      expect(model.kv.reserve(sequence, 1)).toBe(true);
      return { sequence, tokens: [token], wantsLogits: true };
    });
    const logits = model.forward(parts);
    expect(parts.map((_, i) => logits.row(i))).toEqual(alone);
    for (const { sequence } of parts) model.kv.release(sequence);
  });

  test("completes text as the CPU does", () => {
    const answers = [gpu, cpu].map((parts) => {
      const events: GenerationEvent[] = [];
      const engine = new Engine(parts, (_, event) => events.push(event));
      engine.submit(1, greedyInput({ kind: "text", text: "for (let i = 0; i <" }, 4));
      while (engine.step());
      return events.map((event) => (event.type === "done" ? event.result.finish : event));
    });
    expect(JSON.stringify(answers[0]).replace(/-?\d+\.\d+/g, "")).toBe(
      JSON.stringify(answers[1]).replace(/-?\d+\.\d+/g, ""),
    );
  });
});

test("files whose matrices are not of one type are computed op by op", () => {
  const gguf = readGguf(MODEL);
  const obstacle = (of: GgufFile) => fusedObstacle(gpu.backend, of, parseMlaMoeConfig(of));
  expect(obstacle(gguf)).toBeUndefined();
  const mixed = (name: string, type: "Q8_0" | "Q6_K") => {
    const tensor = gguf.tensors.get(name);
    if (tensor === undefined) throw new Error(`expected ${name} in the file`);
    return { ...gguf, tensors: new Map(gguf.tensors).set(name, { ...tensor, type }) };
  };
  expect(obstacle(mixed("blk.1.attn_output.weight", "Q8_0"))).toBe(
    "the fused kernels take matrices of one type with native sparse attention, found Q4_0 and blk.1.attn_output.weight of Q8_0",
  );
  expect(obstacle(mixed("token_embd.weight", "Q6_K"))).toBe(
    "the fused kernels take Q4_0, Q8_0, BF16, F32 with native sparse attention, found token_embd.weight of Q6_K",
  );
});
