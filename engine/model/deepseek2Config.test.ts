import { expect, test } from "vitest";
import { EngineError } from "../base/errors.ts";
import type { GgufValue } from "../loader/ggufValues.ts";
import { parseMlaMoeConfig } from "./parseConfig.ts";

/** The keys of DeepSeek-Coder-V2-Lite as llama.cpp's converter of 2024 writes them. */
const lite: Record<string, GgufValue> = {
  "general.architecture": "deepseek2",
  "tokenizer.ggml.tokens": ["a", "b"],
  "deepseek2.block_count": 27,
  "deepseek2.context_length": 163840,
  "deepseek2.embedding_length": 2048,
  "deepseek2.feed_forward_length": 10944,
  "deepseek2.attention.head_count": 16,
  "deepseek2.attention.head_count_kv": 16,
  "deepseek2.rope.freq_base": 10000,
  "deepseek2.attention.layer_norm_rms_epsilon": 1e-6,
  "deepseek2.expert_used_count": 6,
  "deepseek2.leading_dense_block_count": 1,
  "deepseek2.attention.kv_lora_rank": 512,
  "deepseek2.attention.key_length": 192,
  "deepseek2.attention.value_length": 128,
  "deepseek2.expert_feed_forward_length": 1408,
  "deepseek2.expert_count": 64,
  "deepseek2.expert_shared_count": 2,
  "deepseek2.expert_weights_scale": 1,
  "deepseek2.rope.dimension_count": 64,
  "deepseek2.rope.scaling.type": "yarn",
  "deepseek2.rope.scaling.factor": 40,
  "deepseek2.rope.scaling.original_context_length": 4096,
  "deepseek2.rope.scaling.yarn_log_multiplier": 0.0707,
};

/** What newer converters write instead, and what the large models have. */
const large: Record<string, GgufValue> = {
  "deepseek2.attention.key_length": 576,
  "deepseek2.attention.value_length": 512,
  "deepseek2.attention.key_length_mla": 192,
  "deepseek2.attention.value_length_mla": 128,
  "deepseek2.attention.q_lora_rank": 1536,
  "deepseek2.expert_gating_func": 2,
  "deepseek2.expert_weights_norm": true,
  "deepseek2.expert_weights_scale": 2.5,
  "deepseek2.expert_group_count": 8,
  "deepseek2.expert_group_used_count": 4,
  "deepseek2.nextn_predict_layers": 1,
};

function parse(changes: Record<string, GgufValue | undefined> = {}) {
  const keys = Object.entries({ ...lite, ...changes });
  const metadata = new Map(
    keys.filter((pair): pair is [string, GgufValue] => pair[1] !== undefined),
  );
  return parseMlaMoeConfig({
    path: "m.gguf",
    fileBytes: 0,
    metadata,
    tensors: new Map(),
    fingerprint: "",
  });
}

test("reads the shape of Coder-V2-Lite", () => {
  expect(parse()).toMatchObject({
    vocab: 2,
    hidden: 2048,
    nLayers: 27,
    nDenseLayers: 1,
    nHeads: 16,
    nopeDim: 128,
    ropeDim: 64,
    vDim: 128,
    latentDim: 512,
    queryLatentDim: undefined,
    moe: { nExperts: 64, topK: 6, ff: 1408, sharedFf: 2816, scoreFunc: 1, normalize: false },
    nsa: undefined,
  });
});

// 0.1 · 0.707 · ln 40 + 1 = 1.2608, squared, over √192 (modeling_deepseek.py: softmax_scale · mscale²).
test("scores get YaRN's temperature", () => {
  expect(parse().softmaxScale).toBeCloseTo(0.11472, 5);
});

test("reads widths of a head, query latents, groups and the layers before the predicting one as newer files give them", () => {
  expect(parse(large)).toMatchObject({
    nLayers: 26,
    nopeDim: 128,
    vDim: 128,
    queryLatentDim: 1536,
    moe: { scoreFunc: 2, nGroups: 8, topGroups: 4, normalize: true, scale: 2.5 },
  });
});

test.each<[string, GgufValue, RegExp]>([
  ["general.architecture", "llama", /to be tidepool or deepseek2, found llama/],
  ["deepseek2.expert_gating_func", 3, /to be 1 or 2, found 3/],
  ["deepseek2.expert_used_count", 65, /an integer from 1 to 64, found 65/],
  ["deepseek2.expert_group_count", 7, /to divide 64 experts, found 7/],
  ["deepseek2.rope.dimension_count", 192, /an integer from 2 to 191, found 192/],
  ["deepseek2.rope.scaling.type", "linear", /to be none or yarn, found linear/],
])("%s of %j is refused", (key, value, message) => {
  const attempt = () => parse({ [key]: value });
  expect(attempt).toThrow(EngineError);
  expect(attempt).toThrow(message);
});
