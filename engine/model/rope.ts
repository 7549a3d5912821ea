/** Rotary frequencies of a model file: plain, or YaRN as DeepSeek uses it. */
import type { GgufFile } from "../loader/gguf.ts";
import { choiceKey, floatKey, intKey, modelError } from "../loader/metadata.ts";

const MAX_CONTEXT = 1 << 20;

export interface Rope {
  /** (dim / 2): angle per position of each interleaved pair. */
  invFreq: Float32Array;
  /** Factor on queries and on keys, once each. */
  mscale: number;
}

/** Reads the keys `prefix`.rope.*, for `dim` rotated dimensions. Throws `bad_model` naming the key. */
export function parseRope(gguf: GgufFile, prefix: string, dim: number): Rope {
  const key = (name: string) => `${prefix}.rope.${name}`;
  if (dim % 2 !== 0)
    throw modelError(gguf, `expected ${key("dimension_count")} to be even, found ${dim}`);
  const base = floatKey(gguf, key("freq_base"), 1);
  const plain = Float64Array.from({ length: dim / 2 }, (_, i) => base ** ((-2 * i) / dim));
  const scaling = choiceKey(gguf, key("scaling.type"), ["none", "yarn"], "none");
  if (scaling === "none") return { invFreq: Float32Array.from(plain), mscale: 1 };
  const factor = floatKey(gguf, key("scaling.factor"), 0);
  const original = intKey(gguf, key("scaling.original_context_length"), 1, MAX_CONTEXT);
  const multiplier = floatKey(gguf, key("scaling.yarn_log_multiplier"), -1e-9, 0);
  const invFreq = plain.map((f, i) => {
    const keep = 1 - yarnRamp(i, dim, base, original);
    return (f * (1 - keep)) / factor + f * keep;
  });
  return { invFreq: Float32Array.from(invFreq), mscale: multiplier * Math.log(factor) + 1 };
}

/** 0 for pairs that keep their frequency, 1 for those that are slowed by the whole factor. */
function yarnRamp(pair: number, dim: number, base: number, original: number): number {
  const last = dim / 2 - 1;
  const clamp = (value: number, max: number) => Math.min(max, Math.max(0, value));
  const turns = (beta: number) =>
    (dim * Math.log(original / (beta * 2 * Math.PI))) / (2 * Math.log(base));
  const low = clamp(Math.floor(turns(32)), last);
  const high = clamp(Math.ceil(turns(1)), last);
  return clamp((pair - low) / Math.max(high - low, 0.001), 1);
}
