/** Brings the tensors of a `tidepool` file to the backend: matrices through its mapping, vectors by copy. */
import type { BufferHandle, WeightHandle } from "../backend/addon.ts";
import type { Backend } from "../backend/backend.ts";
import type { GgufFile } from "../loader/gguf.ts";
import { type TensorTypeName, tensorType } from "../loader/ggufTensors.ts";
import { tensorOf } from "../loader/metadata.ts";
import { readF32 } from "../loader/tensorData.ts";
import type { TidepoolConfig } from "./tidepoolConfig.ts";

export interface GatedFf {
  gate: WeightHandle;
  up: WeightHandle;
  down: WeightHandle;
}

export interface ExpertWeights extends GatedFf {
  router: WeightHandle;
  routerBias: BufferHandle;
  shared: GatedFf | undefined;
}

export interface LayerWeights {
  attnNorm: BufferHandle;
  q: WeightHandle;
  kvA: WeightHandle;
  kvANorm: BufferHandle;
  kvB: WeightHandle;
  output: WeightHandle;
  gate: WeightHandle;
  gateBias: BufferHandle;
  phi: { k: BufferHandle; v: BufferHandle };
  ffnNorm: BufferHandle;
  ffn: { kind: "dense"; weights: GatedFf } | { kind: "moe"; weights: ExpertWeights };
}

export interface TidepoolWeights {
  embedding: WeightHandle;
  outputNorm: BufferHandle;
  layers: LayerWeights[];
}

const MATRIX_TYPES: readonly TensorTypeName[] = ["F32", "F16", "Q4_0", "Q8_0"];

interface Uploader {
  /** A stack of `nMatrices` matrices (nRows, nCols). */
  matrix(name: string, nRows: number, nCols: number, nMatrices?: number): WeightHandle;
  /** An F32 tensor of any shape, given innermost first. */
  vector(name: string, ...dims: number[]): BufferHandle;
}

/** Uploads all weights of `gguf`. Throws `bad_model` when a tensor is missing or has another shape or type. */
export function uploadTidepoolWeights(
  backend: Backend,
  gguf: GgufFile,
  config: TidepoolConfig,
): TidepoolWeights {
  const { mapping } = backend.openMapping(gguf.path);
  try {
    const upload: Uploader = {
      matrix(name, nRows, nCols, nMatrices) {
        const dims = nMatrices === undefined ? [nCols, nRows] : [nCols, nRows, nMatrices];
        const tensor = tensorOf(gguf, name, dims, MATRIX_TYPES);
        const type = tensorType[tensor.type];
        return backend.createWeight(mapping, tensor.offset, {
          type,
          nMatrices: nMatrices ?? 1,
          nRows,
          nCols,
        });
      },
      vector: (name, ...dims) =>
        backend.allocFrom(readF32(gguf, tensorOf(gguf, name, dims, ["F32"]))),
    };
    return {
      embedding: upload.matrix("token_embd.weight", config.vocab, config.hidden),
      outputNorm: upload.vector("output_norm.weight", config.hidden),
      layers: Array.from({ length: config.nLayers }, (_, layer) =>
        uploadLayer(upload, config, layer),
      ),
    };
  } finally {
    backend.dispose(mapping);
  }
}

function uploadLayer({ matrix, vector }: Uploader, c: TidepoolConfig, layer: number): LayerWeights {
  const name = (part: string) => `blk.${layer}.${part}`;
  return {
    attnNorm: vector(name("attn_norm.weight"), c.hidden),
    q: matrix(name("attn_q.weight"), c.nHeads * (c.nopeDim + c.ropeDim), c.hidden),
    kvA: matrix(name("attn_kv_a_mqa.weight"), c.latentDim + c.ropeDim, c.hidden),
    kvANorm: vector(name("attn_kv_a_norm.weight"), c.latentDim),
    kvB: matrix(name("attn_kv_b.weight"), c.nHeads * (c.nopeDim + c.vDim), c.latentDim),
    output: matrix(name("attn_output.weight"), c.hidden, c.nHeads * c.vDim),
    gate: matrix(name("attn_gate.weight"), c.nHeads * 3, c.hidden),
    gateBias: vector(name("attn_gate.bias"), c.nHeads * 3),
    phi: {
      k: vector(name("attn_cmp_k.weight"), c.latentDim + c.ropeDim, c.nsa.cmpLen),
      v: vector(name("attn_cmp_v.weight"), c.latentDim, c.nsa.cmpLen),
    },
    ffnNorm: vector(name("ffn_norm.weight"), c.hidden),
    ffn:
      layer < c.nDenseLayers
        ? { kind: "dense", weights: uploadFf({ matrix, vector }, name, "", c.denseFf, c.hidden) }
        : { kind: "moe", weights: uploadExperts({ matrix, vector }, name, c) },
  };
}

function uploadFf(
  { matrix }: Uploader,
  name: (part: string) => string,
  suffix: string,
  ff: number,
  hidden: number,
  nMatrices?: number,
): GatedFf {
  return {
    gate: matrix(name(`ffn_gate${suffix}.weight`), ff, hidden, nMatrices),
    up: matrix(name(`ffn_up${suffix}.weight`), ff, hidden, nMatrices),
    down: matrix(name(`ffn_down${suffix}.weight`), hidden, ff, nMatrices),
  };
}

function uploadExperts(
  upload: Uploader,
  name: (part: string) => string,
  c: TidepoolConfig,
): ExpertWeights {
  const { nExperts, ff, sharedFf } = c.moe;
  return {
    ...uploadFf(upload, name, "_exps", ff, c.hidden, nExperts),
    router: upload.matrix(name("ffn_gate_inp.weight"), nExperts, c.hidden),
    routerBias: upload.vector(name("exp_probs_b.bias"), nExperts),
    shared: sharedFf > 0 ? uploadFf(upload, name, "_shexp", sharedFf, c.hidden) : undefined,
  };
}
