/**
 * What a file of architecture `deepseek2` says about its model: DeepSeek-V2, Coder-V2 and their Lite versions.
 * Keys are those of llama.cpp's converters, old and new. Values that are not implemented are refused here.
 */
import type { GgufFile } from "../loader/gguf.ts";
import { choiceKey, floatKey, intKey, modelError, stringsKey } from "../loader/metadata.ts";
import type { MlaMoeConfig } from "./mlaMoeConfig.ts";
import { parseRope } from "./rope.ts";

const MAX = 1 << 20;

/** Parses and checks the metadata of `gguf`. Throws `bad_model` naming the key, what was expected and what was found. */
export function parseDeepseek2Config(gguf: GgufFile): MlaMoeConfig {
  choiceKey(gguf, "general.architecture", ["deepseek2"]);
  const int = (key: string, max = MAX, min = 1) => intKey(gguf, `deepseek2.${key}`, min, max);
  // Newer converters give the widths of the latent form, and those of a head under names of their own.
  const widthOf = (part: "key" | "value") =>
    gguf.metadata.has(`deepseek2.attention.${part}_length_mla`)
      ? int(`attention.${part}_length_mla`)
      : int(`attention.${part}_length`);
  const keyDim = widthOf("key");
  const ropeDim = int("rope.dimension_count", keyDim - 1, 2);
  const nPredict = intKey(gguf, "deepseek2.nextn_predict_layers", 0, 8, 0);
  const nLayers = int("block_count", 512) - nPredict;
  const rope = parseRope(gguf, "deepseek2", ropeDim);
  const hasQueryLatent = gguf.metadata.has("deepseek2.attention.q_lora_rank");
  return {
    vocab: stringsKey(gguf, "tokenizer.ggml.tokens").length,
    hidden: int("embedding_length"),
    nLayers,
    nDenseLayers: int("leading_dense_block_count", nLayers, 0),
    nHeads: int("attention.head_count", 1024),
    nopeDim: keyDim - ropeDim,
    ropeDim,
    vDim: widthOf("value"),
    latentDim: int("attention.kv_lora_rank"),
    queryLatentDim: hasQueryLatent ? int("attention.q_lora_rank") : undefined,
    denseFf: int("feed_forward_length"),
    moe: parseMoe(gguf),
    eps: floatKey(gguf, "deepseek2.attention.layer_norm_rms_epsilon", 0),
    contextLength: int("context_length"),
    invFreq: rope.invFreq,
    softmaxScale: rope.mscale ** 2 / Math.sqrt(keyDim),
    nsa: undefined,
  };
}

function parseMoe(gguf: GgufFile): MlaMoeConfig["moe"] {
  const int = (key: string, max: number, fallback?: number) =>
    intKey(gguf, `deepseek2.${key}`, 1, max, fallback);
  const nExperts = int("expert_count", 4096);
  const ff = int("expert_feed_forward_length", MAX);
  const nGroups = int("expert_group_count", nExperts, 1);
  if (nExperts % nGroups !== 0)
    throw modelError(
      gguf,
      `expected deepseek2.expert_group_count to divide ${nExperts} experts, found ${nGroups}`,
    );
  return {
    nExperts,
    topK: int("expert_used_count", nExperts),
    ff,
    sharedFf: ff * intKey(gguf, "deepseek2.expert_shared_count", 0, 64, 0),
    // Files of DeepSeek-V2 do not name the function.
    scoreFunc: choiceKey(gguf, "deepseek2.expert_gating_func", [1, 2], 1),
    nGroups,
    topGroups: int("expert_group_used_count", nGroups, nGroups),
    normalize: choiceKey(gguf, "deepseek2.expert_weights_norm", [true, false], false),
    scale: floatKey(gguf, "deepseek2.expert_weights_scale", 0, 1),
  };
}
