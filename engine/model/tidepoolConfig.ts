/** What a file of architecture `tidepool` says about its model (docs/model.md). Values that are not implemented are refused here. */
import type { GgufFile } from "../loader/gguf.ts";
import { choiceKey, floatKey, intKey, modelError, stringsKey } from "../loader/metadata.ts";

export interface TidepoolConfig {
  vocab: number;
  hidden: number;
  nLayers: number;
  nDenseLayers: number;
  nHeads: number;
  nopeDim: number;
  ropeDim: number;
  vDim: number;
  latentDim: number;
  denseFf: number;
  moe: {
    nExperts: number;
    topK: number;
    ff: number;
    sharedFf: number;
    scoreFunc: number;
    normalize: boolean;
    scale: number;
  };
  eps: number;
  contextLength: number;
  /** (ropeDim / 2): angle per position of each interleaved pair. */
  invFreq: Float32Array;
  softmaxScale: number;
  nsa: {
    cmpLen: number;
    cmpStride: number;
    selectBlock: number;
    selectN: number;
    window: number;
    initBlocks: number;
    localBlocks: number;
  };
}

const MAX = 1 << 20;

/** Parses and checks the metadata of `gguf`. Throws `bad_model` naming the key, what was expected and what was found. */
export function parseTidepoolConfig(gguf: GgufFile): TidepoolConfig {
  choiceKey(gguf, "general.architecture", ["tidepool"]);
  const int = (key: string, max = MAX, min = 1) => intKey(gguf, `tidepool.${key}`, min, max);
  const keyDim = int("attention.key_length");
  const ropeDim = int("rope.dimension_count", keyDim - 1, 2);
  if (ropeDim % 2 !== 0)
    throw modelError(gguf, `expected tidepool.rope.dimension_count to be even, found ${ropeDim}`);
  const nLayers = int("block_count", 512);
  const rope = parseRope(gguf, ropeDim);
  intKey(gguf, "tidepool.nextn_predict_layers", 0, 1, 0);
  return {
    vocab: stringsKey(gguf, "tokenizer.ggml.tokens").length,
    hidden: int("embedding_length"),
    nLayers,
    nDenseLayers: int("leading_dense_block_count", nLayers, 0),
    nHeads: int("attention.head_count", 1024),
    nopeDim: keyDim - ropeDim,
    ropeDim,
    vDim: int("attention.value_length"),
    latentDim: int("attention.kv_lora_rank"),
    denseFf: int("feed_forward_length"),
    moe: parseMoe(gguf),
    eps: floatKey(gguf, "tidepool.attention.layer_norm_rms_epsilon", 0),
    contextLength: int("context_length"),
    invFreq: rope.invFreq,
    softmaxScale: rope.mscale ** 2 / Math.sqrt(keyDim),
    nsa: parseNsa(gguf),
  };
}

function parseMoe(gguf: GgufFile): TidepoolConfig["moe"] {
  const nExperts = intKey(gguf, "tidepool.expert_count", 1, 4096);
  const ff = intKey(gguf, "tidepool.expert_feed_forward_length", 1, MAX);
  return {
    nExperts,
    topK: intKey(gguf, "tidepool.expert_used_count", 1, nExperts),
    ff,
    sharedFf: ff * intKey(gguf, "tidepool.expert_shared_count", 0, 64),
    scoreFunc: choiceKey(gguf, "tidepool.expert_gating_func", [2]),
    normalize: choiceKey(gguf, "tidepool.expert_weights_norm", [true, false]),
    scale: floatKey(gguf, "tidepool.expert_weights_scale", 0),
  };
}

function parseNsa(gguf: GgufFile): TidepoolConfig["nsa"] {
  choiceKey(gguf, "tidepool.nsa.phi", ["position_weighted_mean"]);
  choiceKey(gguf, "tidepool.nsa.gate", ["sigmoid_linear"]);
  const cmpStride = choiceKey(gguf, "tidepool.nsa.stride", [16]);
  const initBlocks = intKey(gguf, "tidepool.nsa.init_blocks", 0, 64);
  const localBlocks = intKey(gguf, "tidepool.nsa.local_blocks", 1, 64);
  return {
    // The scores P[j] of docs/model.md are written for pooled blocks of 32 at stride 16 in blocks of 64.
    cmpLen: choiceKey(gguf, "tidepool.nsa.block_len", [32]),
    cmpStride,
    selectBlock: choiceKey(gguf, "tidepool.nsa.select_block", [64]),
    selectN: intKey(gguf, "tidepool.nsa.select_n", initBlocks + localBlocks, 4096),
    window: intKey(gguf, "tidepool.nsa.window", 1, MAX),
    initBlocks,
    localBlocks,
  };
}

/** Frequencies, and the factor m on queries times keys: plain, or YaRN. */
function parseRope(gguf: GgufFile, dim: number): { invFreq: Float32Array; mscale: number } {
  const key = (name: string) => `tidepool.rope.${name}`;
  const base = floatKey(gguf, key("freq_base"), 1);
  const plain = Float64Array.from({ length: dim / 2 }, (_, i) => base ** ((-2 * i) / dim));
  const scaling = choiceKey(gguf, key("scaling.type"), ["none", "yarn"], "none");
  if (scaling === "none") return { invFreq: Float32Array.from(plain), mscale: 1 };
  const factor = floatKey(gguf, key("scaling.factor"), 0);
  const original = intKey(gguf, key("scaling.original_context_length"), 1, MAX);
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
