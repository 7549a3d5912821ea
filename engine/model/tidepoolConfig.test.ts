import { expect, test } from "vitest";
import { EngineError } from "../base/errors.ts";
import type { GgufValue } from "../loader/ggufValues.ts";
import { parseTidepoolConfig } from "./tidepoolConfig.ts";

/** The keys of tidepool-mini (docs/model.md). */
const mini: Record<string, GgufValue> = {
  "general.architecture": "tidepool",
  "tokenizer.ggml.tokens": ["a", "b", "c"],
  "tidepool.context_length": 4096,
  "tidepool.embedding_length": 384,
  "tidepool.block_count": 12,
  "tidepool.leading_dense_block_count": 1,
  "tidepool.feed_forward_length": 1024,
  "tidepool.attention.head_count": 6,
  "tidepool.attention.key_length": 64,
  "tidepool.attention.value_length": 64,
  "tidepool.attention.kv_lora_rank": 128,
  "tidepool.attention.layer_norm_rms_epsilon": 1e-6,
  "tidepool.rope.dimension_count": 32,
  "tidepool.rope.freq_base": 10000,
  "tidepool.expert_count": 16,
  "tidepool.expert_used_count": 3,
  "tidepool.expert_shared_count": 1,
  "tidepool.expert_feed_forward_length": 128,
  "tidepool.expert_gating_func": 2,
  "tidepool.expert_weights_norm": true,
  "tidepool.expert_weights_scale": 1,
  "tidepool.nsa.block_len": 32,
  "tidepool.nsa.stride": 16,
  "tidepool.nsa.select_block": 64,
  "tidepool.nsa.select_n": 16,
  "tidepool.nsa.window": 512,
  "tidepool.nsa.init_blocks": 1,
  "tidepool.nsa.local_blocks": 2,
  "tidepool.nsa.phi": "position_weighted_mean",
  "tidepool.nsa.gate": "sigmoid_linear",
  "tidepool.nextn_predict_layers": 1,
};

const yarn = {
  "tidepool.rope.scaling.type": "yarn",
  "tidepool.rope.scaling.factor": 8,
  "tidepool.rope.scaling.original_context_length": 4096,
  "tidepool.rope.scaling.yarn_log_multiplier": 0.1,
};

/** Parses tidepool-mini's keys with `changes`; undefined takes a key away. */
function parse(changes: Record<string, GgufValue | undefined> = {}) {
  const keys = Object.entries({ ...mini, ...changes });
  const metadata = new Map(
    keys.filter((pair): pair is [string, GgufValue] => pair[1] !== undefined),
  );
  return parseTidepoolConfig({
    path: "m.gguf",
    fileBytes: 0,
    metadata,
    tensors: new Map(),
    fingerprint: "",
  });
}

test("reads the shape of tidepool-mini", () => {
  expect(parse()).toMatchObject({
    vocab: 3,
    hidden: 384,
    nLayers: 12,
    nDenseLayers: 1,
    nHeads: 6,
    nopeDim: 32,
    ropeDim: 32,
    vDim: 64,
    latentDim: 128,
    denseFf: 1024,
    moe: { nExperts: 16, topK: 3, ff: 128, sharedFf: 128, scoreFunc: 2, normalize: true, scale: 1 },
    nsa: { cmpLen: 32, cmpStride: 16, selectBlock: 64, selectN: 16, window: 512 },
    softmaxScale: 0.125,
  });
});

test("without scaling, pair i turns by base^(-2i/32) per position", () => {
  const { invFreq } = parse();
  expect(invFreq).toHaveLength(16);
  expect(invFreq[0]).toBe(1);
  expect(invFreq[8]).toBeCloseTo(0.01, 9);
  expect(invFreq[15]).toBeCloseTo(1.77827941e-4, 10);
});

// Frozen from ModelConfig(yarn_factor=8, yarn_original=4096) of engine/train/config.py; pair 8 by hand:
// low 5, high 12, so 3/7 of it is slowed: 0.01 · (3/7 / 8 + 4/7) = 0.00625.
test.each([
  [0, 1],
  [5, 0.05623413251903491],
  [8, 0.00625],
  [10, 0.0011858541225631422],
  [12, 0.000125],
  [15, 2.2228492625486534e-5],
])("with YaRN, pair %i has frequency %f as in training", (pair, expected) => {
  const found = parse(yarn).invFreq[pair] ?? Number.NaN;
  expect(Math.abs(found / expected - 1)).toBeLessThan(1e-6);
});

test("with YaRN, scores get the temperature of training", () => {
  expect(parse(yarn).softmaxScale).toBeCloseTo(0.18239113494857567, 12);
});

test("a model without MTP module is accepted", () => {
  expect(parse({ "tidepool.nextn_predict_layers": undefined }).nLayers).toBe(12);
});

test.each<[string, GgufValue, RegExp]>([
  ["general.architecture", "llama", /to be tidepool, found llama/],
  ["tidepool.nsa.phi", "mlp", /to be position_weighted_mean, found mlp/],
  ["tidepool.nsa.gate", "softmax", /to be sigmoid_linear, found softmax/],
  ["tidepool.nsa.stride", 8, /to be 16, found 8/],
  ["tidepool.nsa.block_len", 64, /to be 32, found 64/],
  ["tidepool.nsa.select_block", 32, /to be 64, found 32/],
  ["tidepool.nsa.select_n", 2, /an integer from 3 to 4096, found 2/],
  ["tidepool.expert_gating_func", 1, /to be 2, found 1/],
  ["tidepool.expert_used_count", 17, /an integer from 1 to 16, found 17/],
  ["tidepool.expert_weights_norm", 1, /to be true or false, found 1/],
  ["tidepool.block_count", 0, /an integer from 1 to 512, found 0/],
  ["tidepool.leading_dense_block_count", 13, /an integer from 0 to 12, found 13/],
  ["tidepool.rope.dimension_count", 64, /an integer from 2 to 63, found 64/],
  ["tidepool.rope.dimension_count", 31, /to be even, found 31/],
  ["tidepool.rope.freq_base", Number.NaN, /a number above 1, found NaN/],
  ["tidepool.rope.scaling.type", "linear", /to be none or yarn, found linear/],
  ["tidepool.attention.layer_norm_rms_epsilon", 0, /a number above 0, found 0/],
  ["tidepool.nextn_predict_layers", 2, /an integer from 0 to 1, found 2/],
  ["tokenizer.ggml.tokens", "a", /to be an array of strings, found a/],
])("%s of %j is refused", (key, value, message) => {
  const attempt = () => parse({ [key]: value });
  expect(attempt).toThrow(EngineError);
  expect(attempt).toThrow(message);
  expect(attempt).toThrow(/^m\.gguf: expected [^\n]+$/);
});

const optional = ["tidepool.nextn_predict_layers"];
test.each(Object.keys(mini).filter((key) => !optional.includes(key)))(
  "a file without %s is refused",
  (key) => {
    expect(() => parse({ [key]: undefined })).toThrow(`expected ${key} to be `);
    expect(() => parse({ [key]: undefined })).toThrow("found nothing");
  },
);

test.each(["factor", "original_context_length"])("YaRN without %s is refused", (name) => {
  const key = `tidepool.rope.scaling.${name}`;
  expect(() => parse({ ...yarn, [key]: undefined })).toThrow(`expected ${key} to be `);
});

test("YaRN without a log multiplier leaves the scores' temperature alone", () => {
  const changes = { ...yarn, "tidepool.rope.scaling.yarn_log_multiplier": undefined };
  expect(parse(changes).softmaxScale).toBe(0.125);
});
