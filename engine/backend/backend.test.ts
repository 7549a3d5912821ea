import { describe, expect, it } from "vitest";
import { EngineError } from "../base/errors.ts";
import { Backend } from "./backend.ts";
import { WEIGHT_TYPES } from "./params.ts";

/** A (rows, cols) f32 weight that holds `values`. */
function f32Weight(backend: Backend, values: number[], nRows: number, nCols: number) {
  return backend.createWeightFromMemory(Float32Array.from(values), {
    type: WEIGHT_TYPES.f32,
    nMatrices: 1,
    nRows,
    nCols,
  });
}

function codeOfFailure(call: () => unknown): string {
  try {
    call();
  } catch (error) {
    return EngineError.is(error) ? error.code : "not an EngineError";
  }
  return "no failure";
}

describe("Backend over the native addon", () => {
  it("multiplies by a weight, adds the bias and keeps what the output held when asked", () => {
    const backend = Backend.open({ device: "reference" });
    const w = f32Weight(backend, [1, 2, 3, 4, 5, 6], 3, 2);
    const x = backend.allocFrom(Float32Array.from([1, 10]));
    const bias = backend.allocFrom(Float32Array.from([100, 200, 300]));
    const out = backend.alloc(12);
    backend.linear(out, x, w, 1, { bias });
    backend.linear(out, x, w, 1, { accumulate: true });
    const result = new Float32Array(3);
    backend.download(result, out, 0);
    expect([...result]).toEqual([142, 286, 430]);
    backend.close();
  });

  it("finds the largest logit and its log-probability", () => {
    const backend = Backend.open({ device: "reference" });
    const logits = backend.allocFrom(Float32Array.from([0, Math.log(3), 0, 0]));
    const { ids, logProbs } = backend.argmax(logits, 4, 1);
    expect([...ids]).toEqual([1]);
    expect(logProbs[0]).toBeCloseTo(Math.log(0.5), 6);
  });

  it("answers wrong sizes, wrong handles and use after dispose with bad_argument", () => {
    const backend = Backend.open({ device: "reference" });
    const other = Backend.open({ device: "reference" });
    const x = backend.alloc(8);
    expect(codeOfFailure(() => backend.rmsnorm(x, x, x, 1, 4, 1e-6))).toBe("bad_argument");
    expect(codeOfFailure(() => other.upload(x, 0, new Float32Array(1)))).toBe("bad_argument");
    expect(codeOfFailure(() => backend.upload(x, 4, new Float32Array(2)))).toBe("bad_argument");
    backend.dispose(x);
    backend.dispose(x);
    expect(codeOfFailure(() => backend.upload(x, 0, new Float32Array(1)))).toBe("bad_argument");
    expect(codeOfFailure(() => backend.alloc(2 ** 50))).toBe("out_of_memory");
    expect(codeOfFailure(() => Backend.open({ device: "cuda" }))).toBe("device");
  });

  it("keeps the message of a mapping that cannot be opened on one line", () => {
    const backend = Backend.open({ device: "reference" });
    expect(() => backend.openMapping("/nowhere/model.gguf")).toThrow(
      /^ek_mapping_open: cannot open \/nowhere\/model.gguf: No such file or directory$/,
    );
  });
});
