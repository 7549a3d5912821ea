/** What a file of architecture `tidepool` says about its model (docs/model.md). Values that are not implemented are refused here. */
import type { GgufFile } from "../loader/gguf.ts";
import { choiceKey, floatKey, intKey, stringsKey } from "../loader/metadata.ts";
import type { MlaMoeConfig, NsaConfig } from "./mlaMoeConfig.ts";
import { parseRope } from "./rope.ts";

const MAX = 1 << 20;

/** Parses and checks the metadata of `gguf`. Throws `bad_model` naming the key, what was expected and what was found. */
export function parseTidepoolConfig(gguf: GgufFile): MlaMoeConfig {
  choiceKey(gguf, "general.architecture", ["tidepool"]);
  const int = (key: string, max = MAX, min = 1) => intKey(gguf, `tidepool.${key}`, min, max);
  const keyDim = int("attention.key_length");
  const ropeDim = int("rope.dimension_count", keyDim - 1, 2);
  const nLayers = int("block_count", 512);
  const rope = parseRope(gguf, "tidepool", ropeDim);
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
    queryLatentDim: undefined,
    denseFf: int("feed_forward_length"),
    moe: parseMoe(gguf),
    eps: floatKey(gguf, "tidepool.attention.layer_norm_rms_epsilon", 0),
    contextLength: int("context_length"),
    invFreq: rope.invFreq,
    softmaxScale: rope.mscale ** 2 / Math.sqrt(keyDim),
    nsa: parseNsa(gguf),
  };
}

function parseMoe(gguf: GgufFile): MlaMoeConfig["moe"] {
  const nExperts = intKey(gguf, "tidepool.expert_count", 1, 4096);
  const ff = intKey(gguf, "tidepool.expert_feed_forward_length", 1, MAX);
  return {
    nExperts,
    topK: intKey(gguf, "tidepool.expert_used_count", 1, nExperts),
    ff,
    sharedFf: ff * intKey(gguf, "tidepool.expert_shared_count", 0, 64),
    scoreFunc: choiceKey(gguf, "tidepool.expert_gating_func", [2]),
    nGroups: 1,
    topGroups: 1,
    normalize: choiceKey(gguf, "tidepool.expert_weights_norm", [true, false]),
    scale: floatKey(gguf, "tidepool.expert_weights_scale", 0),
  };
}

function parseNsa(gguf: GgufFile): NsaConfig {
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
