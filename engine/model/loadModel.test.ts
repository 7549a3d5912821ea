import path from "node:path";
import { expect, test } from "vitest";
import { EngineError } from "../base/errors.ts";
import { readGguf } from "../loader/gguf.ts";
import { loadModel, placeModel } from "./loadModel.ts";

const fixtures = path.resolve(import.meta.dirname, "../../test/fixtures/vectors");
const gguf = readGguf(path.join(fixtures, "deepseek2-lite.gguf"));
const [tensor] = gguf.tensors.values();
if (tensor === undefined) throw new Error("expected a tensor in the fixture");
/** A file that says it is large; nothing of it is read before a device is chosen. */
const large = { ...gguf, tensors: new Map([["large", { ...tensor, nBytes: 2 ** 30 }]]) };
const options = { threads: 1, contextLength: undefined };

test("leaves a small model to the CPU, and says so", () => {
  const { backend, notes } = placeModel(gguf, { ...options, device: "auto" });
  expect(backend.describe()).toMatch(/^CPU/);
  expect(notes).toEqual([
    "device auto: the CPU, because the model is small enough for it (--device cuda uses a GPU)",
  ]);
  backend.close();
});

test("takes the CPU for a large model where there is no GPU, and says why", () => {
  const { backend, notes } = placeModel(large, { ...options, device: "auto" });
  expect(backend.describe()).toMatch(/^CPU/);
  expect(notes).toHaveLength(1);
  // Without a driver, or without CUDA kernels in this build.
  expect(notes[0]).toMatch(/^device auto: the CPU, because [^\n]*(?:NVIDIA driver|CUDA)/);
  backend.close();
});

test("fails when a GPU is asked for by name and there is none", () => {
  const attempt = () => placeModel(gguf, { ...options, device: "cuda" });
  expect(attempt).toThrow(EngineError);
  expect(attempt).toThrow(/NVIDIA driver|CUDA/);
});

test("has nothing to explain when the CPU is asked for", () => {
  const placement = placeModel(gguf, { ...options, device: "cpu" });
  expect(placement.notes).toEqual([]);
  const { model, notes } = loadModel(placement, gguf, 256);
  expect(notes).toEqual([]);
  expect(model.contextLength).toBe(256);
  placement.backend.close();
});
