/** Logits of the engine equal those of the references in Python (engine/train/vectors.py and deepseek2_vectors.py make the fixtures). */
import { readFileSync } from "node:fs";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Backend } from "../../engine/backend/backend.ts";
import type { Device } from "../../engine/backend/params.ts";
import { integrityProblems } from "../../engine/kvcache/integrity.ts";
import { readGguf } from "../../engine/loader/gguf.ts";
import { MlaMoeModel } from "../../engine/model/mlaMoe.ts";

interface Vectors {
  tokens: number[];
  lengths: number[];
  ids: number[];
  argmax: number[];
  logits: number[][];
}

interface Case {
  model: string;
  vectors: string;
  /** Largest absolute difference of a logit. */
  tolerance: number;
}

const FIXTURES = path.resolve(import.meta.dirname, "../fixtures/vectors");
const CASES: Record<string, Case> = {
  "fp32 weights": {
    model: path.join(FIXTURES, "tiny-f32.gguf"),
    vectors: "tiny-f32.json",
    tolerance: 1e-3,
  },
  "DeepSeek-V2-Lite's features": {
    model: path.join(FIXTURES, "deepseek2-lite.gguf"),
    vectors: "deepseek2-lite.json",
    tolerance: 1e-3,
  },
  "DeepSeek-V2's features": {
    model: path.join(FIXTURES, "deepseek2-groups.gguf"),
    vectors: "deepseek2-groups.json",
    tolerance: 1e-3,
  },
  "shipped weights": {
    model: path.resolve(import.meta.dirname, "../../engine/models/tidepool-mini.gguf"),
    vectors: "tidepool-mini.json",
    tolerance: 2e-3,
  },
};
const STEP_TOKENS = 512;

/** How a prompt is cut into steps. */
const CUTS: Record<string, (n: number) => number[]> = {
  "large steps": (n) => steps(n, STEP_TOKENS),
  "uneven chunks": (n) => steps(n, 77),
  "the last tokens one by one": (n) => [
    ...steps(Math.max(n - 40, 0), 301),
    ...steps(Math.min(n, 40), 1),
  ],
};

function steps(n: number, size: number): number[] {
  return Array.from({ length: Math.ceil(n / size) }, (_, i) => Math.min(size, n - i * size));
}

function open(device: Device, nThreads: number, file: string): MlaMoeModel {
  return new MlaMoeModel(Backend.open({ device, nThreads }), readGguf(file), {
    exactCache: true,
    maxStepTokens: STEP_TOKENS,
  });
}

/** Logits after the prompt `tokens`, computed in steps of the given sizes on an empty cache. */
function logitsAfter(model: MlaMoeModel, tokens: readonly number[], sizes: number[]): Float32Array {
  const sequence = model.kv.acquire([]);
  let at = 0;
  let row: Float32Array = new Float32Array();
  for (const size of sizes) {
    const part = tokens.slice(at, at + size);
    at += size;
    expect(model.kv.reserve(sequence, at)).toBe(true);
    const last = at === tokens.length;
    const logits = model.forward([{ sequence, tokens: part, wantsLogits: last }]);
    if (last) row = logits.row(0);
    model.kv.commit(sequence, part);
  }
  model.kv.release(sequence);
  return row;
}

/** Largest difference; anything that is not a number counts as infinite. */
function worstDifference(row: Float32Array, ids: number[], want: number[]): number {
  let worst = 0;
  ids.forEach((id, i) => {
    const difference = Math.abs((row[id] ?? Number.NaN) - (want[i] ?? Number.NaN));
    worst = difference <= worst ? worst : Number.isFinite(difference) ? difference : Infinity;
  });
  return worst;
}

function argmax(row: Float32Array): number {
  return row.reduce((best, value, i) => (value > (row[best] ?? -Infinity) ? i : best), 0);
}

describe.each(Object.entries(CASES))("%s", (_, { model: file, vectors: name, tolerance }) => {
  const vectors = JSON.parse(readFileSync(path.join(FIXTURES, name), "utf8")) as Vectors;
  let model: MlaMoeModel;
  beforeAll(() => {
    model = open("cpu", 2, file);
  });
  afterAll(() => expect(integrityProblems(model.kv)).toEqual([]));

  describe.each(Object.entries(CUTS))("in %s", (_cut, cut) => {
    test.each(vectors.lengths.map((n, i) => [n, i] as const))("%i tokens", (n, i) => {
      const row = logitsAfter(model, vectors.tokens.slice(0, n), cut(n));
      expect(worstDifference(row, vectors.ids, vectors.logits[i] ?? [])).toBeLessThanOrEqual(
        tolerance,
      );
      expect(argmax(row)).toBe(vectors.argmax[i]);
    });
  });
});

test("the naive reference backend agrees as well", () => {
  const vectors = JSON.parse(readFileSync(path.join(FIXTURES, "tiny-f32.json"), "utf8")) as Vectors;
  const model = open("reference", 1, path.join(FIXTURES, "tiny-f32.gguf"));
  for (const n of [1, 33, 65, 513]) {
    const i = vectors.lengths.indexOf(n);
    const row = logitsAfter(model, vectors.tokens.slice(0, n), steps(n, 200));
    expect(worstDifference(row, vectors.ids, vectors.logits[i] ?? [])).toBeLessThanOrEqual(1e-3);
  }
});
