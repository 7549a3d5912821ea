/**
 * The fused CUDA path from a model file to logits and text, on an emulated GPU, beside the CPU backend on the same file.
 * The CPU is tied to PyTorch by agreement.test.ts. Few tokens: an emulated step takes about a second.
 */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Backend } from "../../engine/backend/backend.ts";
import { Engine, loadEngineParts } from "../../engine/engine.ts";
import { greedyInput } from "../../engine/engineRun.ts";
import { integrityProblems } from "../../engine/kvcache/integrity.ts";
import type { KvSequence } from "../../engine/kvcache/pagedKv.ts";
import { type GgufFile, readGguf } from "../../engine/loader/gguf.ts";
import { FusedModel } from "../../engine/model/fusedModel.ts";
import { fusedObstacle } from "../../engine/model/fusedWeights.ts";
import { planGpuMemory } from "../../engine/model/gpuMemoryPlan.ts";
import { placeModel } from "../../engine/model/loadModel.ts";
import { MlaMoeModel } from "../../engine/model/mlaMoe.ts";
import type { Model } from "../../engine/model/model.ts";
import { parseMlaMoeConfig } from "../../engine/model/parseConfig.ts";
import type { GenerationEvent } from "../../engine/scheduler/request.ts";
import { Daemon, runtimeFolder } from "../support/daemon.ts";
import { emulatedGpu } from "../support/emulatedGpu.ts";
import { errorOf } from "../support/errorOf.ts";
import { writeLiteFixture } from "../support/liteFixture.ts";

const FIXTURES = path.resolve(import.meta.dirname, "../fixtures/vectors");
const dir = mkdtempSync(path.join(tmpdir(), "tidepool-cuda-"));
const oldFile = path.join(dir, "old.gguf");
const newFile = path.join(dir, "new.gguf");
Object.assign(process.env, emulatedGpu());

beforeAll(() => {
  writeLiteFixture(oldFile, { converter: "old", seed: 1 });
  writeLiteFixture(newFile, { converter: "new", seed: 2 });
});
afterAll(() => {
  rmSync(dir, { recursive: true });
});

/** Activations and, in prefill, weights are bf16 on the GPU; 0.02 was measured. */
const MOST_ERROR = 0.05;

const prompt = Array.from({ length: 70 }, (_, i) => 8 + ((i * 37) % 250));

/** Logits behind `tokens`, computed in steps of these sizes at the end of `sequence`. */
function feed(model: Model, sequence: KvSequence, tokens: readonly number[], sizes: number[]) {
  let row: Float32Array = new Float32Array();
  let at = 0;
  for (const size of sizes) {
    const part = tokens.slice(at, at + size);
    at += size;
    expect(model.kv.reserve(sequence, sequence.tokens.length + part.length)).toBe(true);
    const isLast = at === tokens.length;
    const logits = model.forward([{ sequence, tokens: part, wantsLogits: isLast }]);
    if (isLast) row = logits.row(0);
    model.kv.commit(sequence, part);
  }
  return row;
}

/** The same on rows that no other sequence left. */
function fresh(model: Model, tokens: readonly number[], sizes = [tokens.length]): Float32Array {
  const sequence = model.kv.acquire([]);
  const row = feed(model, sequence, tokens, sizes);
  model.kv.release(sequence);
  return row;
}

function load(modelPath: string, device: "cpu" | "cuda") {
  return loadEngineParts({ modelPath, device, threads: 2 });
}

describe("a Q4_K_M mix with W_UK and W_UV in one tensor", () => {
  const gpu = () => parts.gpu;
  let parts: { gpu: ReturnType<typeof load>; cpu: ReturnType<typeof load> };
  let whole: Float32Array;
  beforeAll(() => {
    parts = { gpu: load(oldFile, "cuda"), cpu: load(oldFile, "cpu") };
    whole = fresh(gpu().model, prompt);
  });
  afterAll(() => {
    expect(integrityProblems(gpu().model.kv)).toEqual([]);
    parts.gpu.backend.close();
    parts.cpu.backend.close();
  });

  test("runs in fused kernels, and says what it takes of the GPU's memory", () => {
    expect(gpu().model).toBeInstanceOf(FusedModel);
    expect(gpu().notes).toEqual([
      expect.stringMatching(
        /^GPU memory: [\d.]+ GiB of 8\.0 GiB free \(weights [\d.]+ GiB, cache of 1024 tokens .*, workspace /,
      ),
    ]);
  });

  test("takes no more of the GPU's memory than was planned, and most of that", () => {
    const { backend } = gpu();
    const gguf = readGguf(oldFile);
    const config = parseMlaMoeConfig(gguf);
    const plan = planGpuMemory({ backend, gguf, config, fused: true }, 1024);
    const memory = backend.deviceMemory() ?? { freeBytes: 0, totalBytes: 0 };
    const used = memory.totalBytes - memory.freeBytes;
    expect(used).toBeLessThanOrEqual(plan.total);
    expect(used).toBeGreaterThan(0.8 * plan.total);
  });

  test("gives the CPU's logits behind a prompt, and behind tokens decoded after it", () => {
    const { model } = parts.cpu;
    expect(errorOf(whole, fresh(model, prompt))).toBeLessThan(MOST_ERROR);
    const more = [11, 200];
    const decoded = fresh(gpu().model, [...prompt, ...more], [70, 1, 1]);
    expect(errorOf(decoded, fresh(model, [...prompt, ...more]))).toBeLessThan(MOST_ERROR);
    // Far from equal to another prompt's logits: the comparison can fail.
    expect(errorOf(decoded, fresh(model, prompt))).toBeGreaterThan(4 * MOST_ERROR);
  });

  test("gives the same bits however a prompt is cut into steps of the same kind", () => {
    const { model } = gpu();
    const short = prompt.slice(0, 64);
    expect(fresh(model, short, [33, 31])).toEqual(fresh(model, short));
    const long = [...prompt, ...prompt.slice(0, 65)];
    expect(fresh(model, long, [70, 65])).toEqual(fresh(model, long));
    // Up to 64 tokens have kernels of their own, which round less (docs/decisions/0008).
    expect(errorOf(fresh(model, prompt, [64, 6]), whole)).toBeLessThan(MOST_ERROR);
  });

  test("goes on from rows that another sequence left, also from the middle of a block", () => {
    const { model } = gpu();
    const other = [...prompt.slice(0, 67), 99, 98, 97];
    const expected = fresh(model, other);
    const sequence = model.kv.acquire(other);
    const nCached = sequence.tokens.length;
    expect(nCached).toBeGreaterThanOrEqual(67);
    model.kv.release(sequence);
    // Back to the first prompt: its tail was replaced by nothing, so only its last token is new.
    const rewound = model.kv.acquire(prompt.slice(0, 68));
    expect(rewound.tokens).toEqual(prompt.slice(0, 67));
    const third = [...prompt.slice(0, 67), 50, 51];
    model.kv.release(rewound);
    const again = model.kv.acquire(third);
    expect(again.tokens.length).toBe(67);
    expect(feed(model, again, third.slice(67), [2])).toEqual(fresh(model, third, [67, 2]));
    model.kv.release(again);
    expect(fresh(model, other)).toEqual(expected);
  });

  test("computes sequences of one step as each alone", () => {
    const { model } = gpu();
    const prompts = [prompt.slice(0, 20), prompt.slice(5, 40)];
    const alone = prompts.map((tokens) => fresh(model, [...tokens, 30], [tokens.length, 1]));
    const sequences = prompts.map((tokens) => {
      const sequence = model.kv.acquire([]);
      feed(model, sequence, tokens, [tokens.length]);
      expect(model.kv.reserve(sequence, tokens.length + 1)).toBe(true);
      return sequence;
    });
    const step = sequences.map((sequence) => ({ sequence, tokens: [30], wantsLogits: true }));
    const logits = model.forward(step);
    expect(sequences.map((_, i) => logits.row(i))).toEqual(alone);
    expect(logits.greedy().ids.length).toBe(2);
    for (const sequence of sequences) model.kv.release(sequence);
  });

  test("ends a cancelled request at the next step, leaves nothing, and answers the next one", () => {
    const events: [number, GenerationEvent][] = [];
    const engine = new Engine(gpu(), (id, event) => events.push([id, event]));
    const text = { kind: "text" as const, text: "const x = self.import" };
    engine.submit(1, greedyInput(text, 100));
    for (let i = 0; i < 3; i++) engine.step();
    expect(engine.stats().kv.blocksUsed).toBeGreaterThan(0);
    engine.cancel(1);
    engine.step();
    expect(events.at(-1)).toMatchObject([1, { type: "done", result: { finish: "cancelled" } }]);
    expect(engine.stats().kv.blocksUsed).toBe(0);
    engine.submit(2, greedyInput(text, 2));
    while (engine.step());
    expect(events.at(-1)).toMatchObject([2, { type: "done" }]);
  });
});

test("reads newer files, whose W_UK is transposed and apart, in Q8_0", () => {
  const [gpu, cpu] = [load(newFile, "cuda"), load(newFile, "cpu")];
  expect(gpu.model).toBeInstanceOf(FusedModel);
  const tokens = prompt.slice(0, 21);
  const want = fresh(cpu.model, tokens);
  expect(errorOf(fresh(gpu.model, tokens, [20, 1]), want)).toBeLessThan(MOST_ERROR);
  gpu.backend.close();
  cpu.backend.close();
});

test("computes other shapes op by op, and says why in one line", () => {
  const { model, notes, backend } = load(path.join(FIXTURES, "deepseek2-lite.gguf"), "cuda");
  expect(model).toBeInstanceOf(MlaMoeModel);
  expect(notes).toEqual([
    expect.stringMatching(
      /^computed op by op, not by fused kernels: the fused kernels take 16 heads of 128 \+ 64, .*, got 4 heads of 16 \+ 8, /,
    ),
    expect.stringMatching(/^GPU memory: /),
  ]);
  const vectors = JSON.parse(readFileSync(path.join(FIXTURES, "deepseek2-lite.json"), "utf8")) as {
    tokens: number[];
    lengths: number[];
    ids: number[];
    logits: number[][];
  };
  const n = 33;
  const row = fresh(model, vectors.tokens.slice(0, n));
  const want = Float32Array.from(vectors.logits[vectors.lengths.indexOf(n)] ?? []);
  const got = Float32Array.from(vectors.ids, (id) => row[id] ?? Number.NaN);
  expect(errorOf(got, want)).toBeLessThan(0.01);
  backend.close();
});

test("computes types that are mixed as no kernel takes them op by op", () => {
  const file = path.join(dir, "mixed.gguf");
  writeLiteFixture(file, { converter: "old", seed: 3, sharedDown: "Q4_K" });
  const [gpu, cpu] = [load(file, "cuda"), load(file, "cpu")];
  expect(gpu.model).toBeInstanceOf(MlaMoeModel);
  expect(gpu.notes[0]).toBe(
    "computed op by op, not by fused kernels: layer 1: no fused kernel for down weights of types Q8_0 (experts) and Q4_K (shared)",
  );
  const tokens = prompt.slice(0, 3);
  expect(errorOf(fresh(gpu.model, tokens), fresh(cpu.model, tokens))).toBeLessThan(0.01);
  gpu.backend.close();
  cpu.backend.close();
});

test("knows before loading which files have no fused kernels", () => {
  const backend = Backend.open({ device: "cuda" });
  const file = path.join(dir, "scaled.gguf");
  writeLiteFixture(file, { converter: "old", seed: 1, scale: 2 });
  const [scaled, gguf] = [readGguf(file), readGguf(oldFile)];
  const obstacle = (of: GgufFile) => fusedObstacle(backend, of, parseMlaMoeConfig(of));
  expect(obstacle(gguf)).toBeUndefined();
  expect(obstacle(scaled)).toMatch(/^the fused kernels route by softmax .*, scale 2$/);
  const tensors = new Map(gguf.tensors);
  const head = gguf.tensors.get("output.weight");
  if (head === undefined) throw new Error("expected a head in the fixture");
  tensors.set(head.name, { ...head, type: "Q5_K" });
  expect(obstacle({ ...gguf, tensors })).toBe(
    "the fused kernels take Q4_K, Q5_0, Q6_K, Q8_0, BF16, found output.weight of Q5_K",
  );
  backend.close();
});

describe("--device auto", () => {
  /** A file of this shape that says it has so many bytes of weights. */
  const fileOf = (nBytes: number) => {
    const gguf = readGguf(oldFile);
    const [tensor] = gguf.tensors.values();
    if (tensor === undefined) throw new Error("expected a tensor in the fixture");
    return { ...gguf, tensors: new Map([["token_embd.weight", { ...tensor, nBytes }]]) };
  };
  const options = { device: "auto", threads: 1, contextLength: undefined } as const;

  test("takes the GPU when the model fits", () => {
    const { backend, notes } = placeModel(fileOf(2 ** 30), options);
    expect(backend.describe()).toMatch(/^CUDA/);
    expect(notes).toEqual(["device auto: the GPU, because the model fits"]);
    backend.close();
  });

  test("takes the CPU when it does not, and says what would fit", () => {
    const { backend, notes } = placeModel(fileOf(9 * 2 ** 30), options);
    expect(backend.describe()).toMatch(/^CPU/);
    expect(notes).toEqual([
      expect.stringMatching(
        /^device auto: the CPU, because .*: expected 9\.\d GiB of GPU memory \(weights 9\.0 GiB, .*: a Q4_K_M file of this model, .* fits$/,
      ),
    ]);
    backend.close();
  });
});

describe("on a GPU with little memory", () => {
  const file = path.join(dir, "long.gguf");
  beforeAll(() => {
    process.env["EMULATED_GPU_MIB"] = "1600";
    writeLiteFixture(file, { converter: "old", seed: 1, contextLength: 524_288 });
  });
  afterAll(() => {
    delete process.env["EMULATED_GPU_MIB"];
  });

  test("says which context fits when the asked one does not", () => {
    const attempt = () =>
      loadEngineParts({ modelPath: file, device: "cuda", threads: 1, contextLength: 524_288 });
    expect(attempt).toThrow(
      /expected [\d.]+ GiB of GPU memory \(weights [\d.]+ GiB, cache of 524288 tokens [\d.]+ GiB, workspace [\d.]+ GiB\), found (?:0\.9|1\.[0-3]) GiB: a context of \d+ tokens fits; with --kv-cache fp8 \d+ tokens do$/,
    );
  });
});

describe("a daemon", () => {
  const folder = runtimeFolder();
  afterAll(folder.clean);

  test("completes on the GPU, and prints what it takes of its memory", async () => {
    const args = ["--model", oldFile, "--device", "cuda"];
    const engine = folder.track(new Daemon(folder.dir, args, emulatedGpu()));
    const health = await engine.ready();
    expect(health.model?.device).toMatch(/^CUDA, emulated on the CPU/);
    expect(engine.output).toMatch(/^GPU memory: /m);
    const body = { input_prefix: "const a = ", input_suffix: "\n", n_predict: 2 };
    const answer = await engine.post("/infill", body);
    expect(answer.status).toBe(200);
    expect(JSON.parse(answer.text)).toMatchObject({ tokens_predicted: 2 });
  });
});
