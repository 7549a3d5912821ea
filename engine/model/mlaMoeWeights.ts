/** The weights of a model with latent attention and experts, by llama.cpp's tensor names and those of docs/model.md. */
import type { BufferHandle, WeightHandle } from "../backend/addon.ts";
import type { Backend } from "../backend/backend.ts";
import { WEIGHT_TYPES } from "../backend/params.ts";
import type { GgufFile } from "../loader/gguf.ts";
import type { MlaMoeConfig } from "./mlaMoeConfig.ts";
import { TensorUpload } from "./tensorUpload.ts";

export interface GatedFf {
  gate: WeightHandle;
  up: WeightHandle;
  down: WeightHandle;
}

export interface ExpertWeights extends GatedFf {
  router: WeightHandle;
  routerBias: BufferHandle | undefined;
  shared: GatedFf | undefined;
}

/** Queries come out of one matrix, or out of two with a norm between them. */
export type QueryWeights =
  | { kind: "full"; w: WeightHandle }
  | { kind: "latent"; a: WeightHandle; norm: BufferHandle; b: WeightHandle };

/** What native sparse attention has beside the attention that it thins out. */
export interface SparseWeights {
  gate: WeightHandle;
  gateBias: BufferHandle;
  phi: { k: BufferHandle; v: BufferHandle };
}

export interface LayerWeights {
  attnNorm: BufferHandle;
  q: QueryWeights;
  kvA: WeightHandle;
  kvANorm: BufferHandle;
  kvB: WeightHandle;
  output: WeightHandle;
  sparse: SparseWeights | undefined;
  ffnNorm: BufferHandle;
  ffn: { kind: "dense"; weights: GatedFf } | { kind: "moe"; weights: ExpertWeights };
}

export interface MlaMoeWeights {
  embedding: WeightHandle;
  /** (vocab, hidden): the embedding when the file has no matrix of its own for it. */
  head: WeightHandle;
  outputNorm: BufferHandle;
  layers: LayerWeights[];
}

type NameOf = (part: string) => string;

/** Uploads all weights of `gguf`. Throws `bad_model` when a tensor is missing or has another shape or type. */
export function uploadMlaMoeWeights(
  backend: Backend,
  gguf: GgufFile,
  config: MlaMoeConfig,
): MlaMoeWeights {
  const upload = new TensorUpload(backend, gguf);
  try {
    const { vocab, hidden, nLayers } = config;
    const embedding = upload.matrix("token_embd.weight", vocab, hidden);
    return {
      embedding,
      head: upload.has("output.weight") ? upload.matrix("output.weight", vocab, hidden) : embedding,
      outputNorm: upload.vector("output_norm.weight", hidden),
      layers: Array.from({ length: nLayers }, (_, layer) => uploadLayer(upload, config, layer)),
    };
  } finally {
    upload.close();
  }
}

function uploadLayer(upload: TensorUpload, c: MlaMoeConfig, layer: number): LayerWeights {
  const name = (part: string) => `blk.${layer}.${part}`;
  return {
    attnNorm: upload.vector(name("attn_norm.weight"), c.hidden),
    q: uploadQuery(upload, name, c),
    kvA: upload.matrix(name("attn_kv_a_mqa.weight"), c.latentDim + c.ropeDim, c.hidden),
    kvANorm: upload.vector(name("attn_kv_a_norm.weight"), c.latentDim),
    kvB: uploadKvB(upload, name, c),
    output: upload.matrix(name("attn_output.weight"), c.hidden, c.nHeads * c.vDim),
    sparse: c.nsa && uploadSparse(upload, name, c, c.nsa.cmpLen),
    ffnNorm: upload.vector(name("ffn_norm.weight"), c.hidden),
    ffn:
      layer < c.nDenseLayers
        ? { kind: "dense", weights: uploadFf(upload, name, "", c.denseFf, c.hidden) }
        : { kind: "moe", weights: uploadExperts(upload, name, c) },
  };
}

function uploadQuery(upload: TensorUpload, name: NameOf, c: MlaMoeConfig): QueryWeights {
  const width = c.nHeads * (c.nopeDim + c.ropeDim);
  const latent = c.queryLatentDim;
  if (latent === undefined)
    return { kind: "full", w: upload.matrix(name("attn_q.weight"), width, c.hidden) };
  return {
    kind: "latent",
    a: upload.matrix(name("attn_q_a.weight"), latent, c.hidden),
    norm: upload.vector(name("attn_q_a_norm.weight"), latent),
    b: upload.matrix(name("attn_q_b.weight"), width, latent),
  };
}

/**
 * W_UK and W_UV of all heads, (nHeads * (nope + v), latent). Newer converters store them apart, W_UK transposed:
 * attn_k_b (nHeads, latent, nope) and attn_v_b (nHeads, v, latent); these are joined as f32, which rounds nothing.
 */
function uploadKvB(upload: TensorUpload, name: NameOf, c: MlaMoeConfig): WeightHandle {
  const { nHeads, nopeDim, vDim, latentDim } = c;
  const nRows = nHeads * (nopeDim + vDim);
  if (!upload.has(name("attn_k_b.weight")))
    return upload.matrix(name("attn_kv_b.weight"), nRows, latentDim);
  const k = upload.values(name("attn_k_b.weight"), latentDim, nopeDim, nHeads);
  const v = upload.values(name("attn_v_b.weight"), vDim, latentDim, nHeads);
  const joined = new Float32Array(nRows * latentDim);
  for (let head = 0; head < nHeads; head++) {
    const at = head * (nopeDim + vDim) * latentDim;
    for (let i = 0; i < nopeDim; i++)
      for (let l = 0; l < latentDim; l++)
        joined[at + i * latentDim + l] = k[(head * latentDim + l) * nopeDim + i] ?? Number.NaN;
    const values = v.subarray(head * vDim * latentDim, (head + 1) * vDim * latentDim);
    joined.set(values, at + nopeDim * latentDim);
  }
  const shape = { type: WEIGHT_TYPES.f32, nMatrices: 1, nRows, nCols: latentDim };
  return upload.backend.createWeightFromMemory(joined, shape);
}

function uploadSparse(
  upload: TensorUpload,
  name: NameOf,
  c: MlaMoeConfig,
  cmpLen: number,
): SparseWeights {
  return {
    gate: upload.matrix(name("attn_gate.weight"), c.nHeads * 3, c.hidden),
    gateBias: upload.vector(name("attn_gate.bias"), c.nHeads * 3),
    phi: {
      k: upload.vector(name("attn_cmp_k.weight"), c.latentDim + c.ropeDim, cmpLen),
      v: upload.vector(name("attn_cmp_v.weight"), c.latentDim, cmpLen),
    },
  };
}

/** The three matrices of a feed-forward, `suffix` as in llama.cpp's names; with `nMatrices` those of so many experts. */
export function uploadFf(
  upload: TensorUpload,
  name: NameOf,
  suffix: string,
  ff: number,
  hidden: number,
  nMatrices?: number,
): GatedFf {
  return {
    gate: upload.matrix(name(`ffn_gate${suffix}.weight`), ff, hidden, nMatrices),
    up: upload.matrix(name(`ffn_up${suffix}.weight`), ff, hidden, nMatrices),
    down: upload.matrix(name(`ffn_down${suffix}.weight`), hidden, ff, nMatrices),
  };
}

function uploadExperts(upload: TensorUpload, name: NameOf, c: MlaMoeConfig): ExpertWeights {
  const { nExperts, ff, sharedFf, scoreFunc } = c.moe;
  const bias = name("exp_probs_b.bias");
  return {
    ...uploadFf(upload, name, "_exps", ff, c.hidden, nExperts),
    router: upload.matrix(name("ffn_gate_inp.weight"), nExperts, c.hidden),
    // Sigmoid routing is balanced by a bias, softmax routing has none.
    routerBias: scoreFunc === 2 || upload.has(bias) ? upload.vector(bias, nExperts) : undefined,
    shared: sharedFf > 0 ? uploadFf(upload, name, "_shexp", sharedFf, c.hidden) : undefined,
  };
}
