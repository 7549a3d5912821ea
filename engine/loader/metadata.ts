/** Typed access to a GGUF file's metadata and tensors; every refusal names the file, the key, and what was expected and found. */
import { EngineError } from "../base/errors.ts";
import type { GgufFile } from "./gguf.ts";
import type { GgufTensor, TensorTypeName } from "./ggufTensors.ts";
import type { GgufNumbers, GgufValue } from "./ggufValues.ts";

/** A `bad_model` error that names the file. */
export function modelError(gguf: GgufFile, message: string): EngineError {
  return new EngineError("bad_model", `${gguf.path}: ${message}`);
}

function refuse(
  gguf: GgufFile,
  key: string,
  expected: string,
  found: GgufValue | undefined,
): EngineError {
  const shown =
    found === undefined
      ? "nothing"
      : typeof found === "object"
        ? `an array of ${found.length}`
        : String(found);
  return modelError(gguf, `expected ${key} to be ${expected}, found ${shown.slice(0, 80)}`);
}

/** An integer from `min` to `max` (inclusive); `fallback` stands for a missing key. */
export function intKey(
  gguf: GgufFile,
  key: string,
  min: number,
  max: number,
  fallback?: number,
): number {
  const value = gguf.metadata.get(key) ?? fallback;
  if (typeof value !== "number" || !Number.isInteger(value) || value < min || value > max) {
    throw refuse(gguf, key, `an integer from ${min} to ${max}`, value);
  }
  return value;
}

/** A finite number above `above`. */
export function floatKey(gguf: GgufFile, key: string, above: number, fallback?: number): number {
  const value = gguf.metadata.get(key) ?? fallback;
  if (typeof value !== "number" || !Number.isFinite(value) || !(value > above)) {
    throw refuse(gguf, key, `a number above ${above}`, value);
  }
  return value;
}

/** One of `allowed`, which is everything this engine implements for the key. */
export function choiceKey<T extends string | number | boolean>(
  gguf: GgufFile,
  key: string,
  allowed: readonly T[],
  fallback?: T,
): T {
  const value = gguf.metadata.get(key) ?? fallback;
  const match = allowed.find((candidate) => candidate === value);
  if (match === undefined) throw refuse(gguf, key, allowed.map(String).join(" or "), value);
  return match;
}

export function stringsKey(gguf: GgufFile, key: string): readonly string[] {
  const value = gguf.metadata.get(key);
  if (!Array.isArray(value)) throw refuse(gguf, key, "an array of strings", value);
  return value as readonly string[];
}

/** An array of numbers, or undefined when the key is missing. */
export function numbersKey(gguf: GgufFile, key: string): GgufNumbers | undefined {
  const value = gguf.metadata.get(key);
  if (value === undefined || (typeof value === "object" && !Array.isArray(value)))
    return value as GgufNumbers | undefined;
  throw refuse(gguf, key, "an array of numbers", value);
}

/** The tensor `name`, which must have exactly `dims` (innermost first) and one of `types`. */
export function tensorOf(
  gguf: GgufFile,
  name: string,
  dims: readonly number[],
  types: readonly TensorTypeName[],
): GgufTensor {
  const tensor = gguf.tensors.get(name);
  if (tensor === undefined) throw modelError(gguf, `expected a tensor ${name}, found none`);
  if (tensor.dims.length !== dims.length || tensor.dims.some((dim, i) => dim !== dims[i])) {
    throw modelError(
      gguf,
      `expected tensor ${name} of shape [${dims.join(", ")}], found [${tensor.dims.join(", ")}]`,
    );
  }
  if (!types.includes(tensor.type)) {
    throw modelError(
      gguf,
      `expected tensor ${name} of type ${types.join(" or ")}, found ${tensor.type}`,
    );
  }
  return tensor;
}
