/**
 * The weights of a file for fused kernels: of `tidepool` as mlaMoeWeights.ts has them, of `deepseek2` with W_UK and W_UV of
 * each head apart.
 */
import type { ModelHandle } from "../backend/addon.ts";
import type { Backend } from "../backend/backend.ts";
import type {
  FusedLayerWeights,
  FusedModelParams,
  FusedModelWeights,
  KvCacheFormat,
} from "../backend/params.ts";
import { EngineError } from "../base/errors.ts";
import type { GgufFile } from "../loader/gguf.ts";
import type { TensorTypeName } from "../loader/ggufTensors.ts";
import type { MlaMoeConfig } from "./mlaMoeConfig.ts";
import { type LayerWeights, uploadFf, uploadMlaMoeWeights } from "./mlaMoeWeights.ts";
import { TensorUpload } from "./tensorUpload.ts";

/** Types of matrices that the fused kernels multiply with; vectors and routers are F32. */
const FUSED_TYPES: readonly TensorTypeName[] = ["Q4_K", "Q5_0", "Q6_K", "Q8_0", "BF16"];

/** Types of all matrices of a model with native sparse attention, one for all (`require_kernels` of narrow/kernels.h). */
const SPARSE_TYPES: readonly TensorTypeName[] = ["Q4_0", "Q8_0", "BF16", "F32"];

/** Types of down projections, routed and shared, that have a kernel together (`for_down_types` of decode/experts.cu). */
const DOWN_TYPES: readonly (readonly [TensorTypeName, TensorTypeName])[] = [
  ["Q5_0", "Q4_K"],
  ["Q8_0", "Q6_K"],
  ["Q5_0", "Q5_0"],
  ["Q8_0", "Q8_0"],
  ["BF16", "BF16"],
];

/** What the native side needs to know of a model of this shape. */
export function fusedParams(
  c: MlaMoeConfig,
  nBlocks: number,
  chunk: number,
  kvCache: KvCacheFormat,
): FusedModelParams {
  const { nLayers, nDenseLayers, hidden, vocab, nHeads, nopeDim, ropeDim, vDim } = c;
  const { latentDim, denseFf, eps, softmaxScale, invFreq, moe } = c;
  return {
    ...{ nLayers, nDense: nDenseLayers, hidden, vocab, nHeads, nopeDim, ropeDim, vDim },
    ...{ latentDim, denseFf, eps, softmaxScale, invFreq, nBlocks, chunk, kvCache },
    ...moe,
    sparse: c.nsa,
  };
}

/** Why the fused kernels of this device do not compute the file, in one line; undefined when they do. */
export function fusedObstacle(
  backend: Backend,
  gguf: GgufFile,
  config: MlaMoeConfig,
): string | undefined {
  if (config.queryLatentDim !== undefined)
    return `the fused kernels take queries in one projection, found a latent of ${config.queryLatentDim}`;
  try {
    backend.fusedModels.plan(fusedParams(config, 1, 1, "bf16"));
  } catch (error) {
    if (EngineError.is(error, "bad_argument")) return error.message;
    throw error;
  }
  if (config.nsa !== undefined) return sparseTypesObstacle(gguf, config);
  for (const { name, type } of gguf.tensors.values()) {
    if (name.endsWith("exp_probs_b.bias")) return "the fused kernels route without a bias";
    const isSmall = name.endsWith("norm.weight") || name.endsWith("ffn_gate_inp.weight");
    if (!isSmall && !FUSED_TYPES.includes(type))
      return `the fused kernels take ${FUSED_TYPES.join(", ")}, found ${name} of ${type}`;
  }
  return mixObstacle(gguf, config);
}

/** The first matrix of a model with native sparse attention whose type has no kernels, or is another than the others'. */
function sparseTypesObstacle({ tensors }: GgufFile, c: MlaMoeConfig): string | undefined {
  const type = tensors.get("blk.0.attn_q.weight")?.type;
  for (const tensor of tensors.values()) {
    const layer = Number(/^blk\.(\d+)\./.exec(tensor.name)?.[1] ?? -1);
    const isTable = tensor.name === "token_embd.weight" || tensor.name === "output.weight";
    const isSmall = /(?:_norm|_cmp_[kv]|attn_gate|ffn_gate_inp)\.weight$|\.bias$/.test(tensor.name);
    if (layer >= c.nLayers || (layer < 0 && !isTable) || isSmall) continue;
    if (!SPARSE_TYPES.includes(tensor.type))
      return `the fused kernels take ${SPARSE_TYPES.join(", ")} with native sparse attention, found ${tensor.name} of ${tensor.type}`;
    if (!isTable && tensor.type !== type)
      return `the fused kernels take matrices of one type with native sparse attention, found ${type} and ${tensor.name} of ${tensor.type}`;
  }
  return undefined;
}

/** The first layer whose types are mixed as no kernel takes them; tensors that are missing are found later. */
function mixObstacle({ tensors }: GgufFile, c: MlaMoeConfig): string | undefined {
  for (let layer = 0; layer < c.nLayers; layer++) {
    const typeOf = (part: string) => tensors.get(`blk.${layer}.${part}.weight`)?.type;
    const isDense = layer < c.nDenseLayers;
    for (const kind of isDense ? [""] : ["_exps", "_shexp"]) {
      const [gate, up] = [typeOf(`ffn_gate${kind}`), typeOf(`ffn_up${kind}`)];
      if (gate !== up)
        return `layer ${layer}: the fused kernels take gate and up of one type, found ffn_gate${kind} of ${gate} and ffn_up${kind} of ${up}`;
    }
    const shared = typeOf(isDense ? "ffn_down" : "ffn_down_shexp");
    const routed = isDense ? shared : typeOf("ffn_down_exps");
    const hasKernel = DOWN_TYPES.some(([r, s]) => r === routed && s === shared);
    if (!hasKernel && routed !== undefined && shared !== undefined)
      return `layer ${layer}: no fused kernel for down weights of types ${routed} (experts) and ${shared} (shared)`;
  }
  return undefined;
}

/**
 * Uploads the weights of `gguf` and makes the model of them; `close` frees both. Throws `bad_model` when a tensor is
 * missing or has another shape, `bad_argument` when types are mixed as no kernel takes them, or `out_of_memory`.
 */
export function loadFusedModel(
  backend: Backend,
  gguf: GgufFile,
  config: MlaMoeConfig,
  params: FusedModelParams,
): { model: ModelHandle; weights: FusedModelWeights } {
  const weights =
    config.nsa === undefined
      ? uploadDense(backend, gguf, config)
      : uploadSparse(backend, gguf, config);
  try {
    return { model: backend.fusedModels.create(params, weights), weights };
  } catch (error) {
    disposeWeights(backend, weights);
    throw error;
  }
}

function uploadDense(backend: Backend, gguf: GgufFile, config: MlaMoeConfig): FusedModelWeights {
  const upload = new TensorUpload(backend, gguf);
  try {
    const { vocab, hidden, nLayers } = config;
    const embedding = upload.matrix("token_embd.weight", vocab, hidden);
    return {
      embedding,
      head: upload.has("output.weight") ? upload.matrix("output.weight", vocab, hidden) : embedding,
      norm: upload.vector("output_norm.weight", hidden),
      layers: Array.from({ length: nLayers }, (_, layer) => uploadLayer(upload, config, layer)),
    };
  } finally {
    upload.close();
  }
}

function uploadSparse(backend: Backend, gguf: GgufFile, config: MlaMoeConfig): FusedModelWeights {
  const { embedding, head, outputNorm, layers } = uploadMlaMoeWeights(backend, gguf, config);
  return { embedding, head, norm: outputNorm, layers: layers.map(sparseLayer) };
}

/** Throws `internal` for what `fusedObstacle` has refused before. */
function sparseLayer({ q, kvA, kvANorm, kvB, sparse, output, ...layer }: LayerWeights) {
  const { attnNorm, ffnNorm, ffn } = layer;
  const shared = ffn.kind === "dense" ? ffn.weights : ffn.weights.shared;
  if (q.kind !== "full" || sparse === undefined || shared === undefined)
    throw new EngineError(
      "internal",
      "expected native sparse attention, queries in one projection and shared experts, found none",
    );
  const { gate, gateBias, phi } = sparse;
  return {
    ...{ attnNorm, kvNorm: kvANorm, ffnNorm, q: q.w, kvA, out: output, shared },
    latent: { kind: "sparse" as const, kvB, gate, gateBias, phi },
    experts: ffn.kind === "dense" ? undefined : ffn.weights,
  };
}

/** Frees all weights now: a second copy of them may not fit beside the first. */
function disposeWeights(backend: Backend, { embedding, head, norm, layers }: FusedModelWeights) {
  const ofLayer = (l: FusedLayerWeights) => [
    ...[l.attnNorm, l.kvNorm, l.ffnNorm, l.q, l.kvA, l.out],
    ...(l.latent.kind === "dense"
      ? [l.latent.kB, l.latent.vB]
      : [l.latent.kvB, l.latent.gate, l.latent.gateBias, l.latent.phi.k, l.latent.phi.v]),
    ...expertHandles(l),
    ...[l.shared.gate, l.shared.up, l.shared.down],
  ];
  for (const handle of [embedding, head, norm, ...layers.flatMap(ofLayer)]) backend.dispose(handle);
}

function expertHandles({ experts }: FusedLayerWeights) {
  if (experts === undefined) return [];
  const { router, routerBias, gate, up, down } = experts;
  return [router, gate, up, down, ...(routerBias === undefined ? [] : [routerBias])];
}

function uploadLayer(upload: TensorUpload, c: MlaMoeConfig, layer: number): FusedLayerWeights {
  const name = (part: string) => `blk.${layer}.${part}`;
  const { hidden, latentDim, ropeDim, nopeDim, vDim, nHeads, moe } = c;
  const isDense = layer < c.nDenseLayers;
  const [kB, vB] = latentHalves(upload, name, c);
  return {
    attnNorm: upload.vector(name("attn_norm.weight"), hidden),
    kvNorm: upload.vector(name("attn_kv_a_norm.weight"), latentDim),
    ffnNorm: upload.vector(name("ffn_norm.weight"), hidden),
    q: upload.matrix(name("attn_q.weight"), nHeads * (nopeDim + ropeDim), hidden),
    kvA: upload.matrix(name("attn_kv_a_mqa.weight"), latentDim + ropeDim, hidden),
    latent: { kind: "dense", kB, vB },
    out: upload.matrix(name("attn_output.weight"), hidden, nHeads * vDim),
    experts: isDense
      ? undefined
      : {
          router: upload.matrix(name("ffn_gate_inp.weight"), moe.nExperts, hidden),
          routerBias: undefined,
          ...uploadFf(upload, name, "_exps", moe.ff, hidden, moe.nExperts),
        },
    shared: isDense
      ? uploadFf(upload, name, "", c.denseFf, hidden)
      : uploadFf(upload, name, "_shexp", moe.sharedFf, hidden),
  };
}

/** W_UK and W_UV: two tensors in newer files, the first transposed; rows of one in older ones. */
function latentHalves(upload: TensorUpload, name: (part: string) => string, c: MlaMoeConfig) {
  const { nHeads, nopeDim, vDim, latentDim } = c;
  const period = nopeDim + vDim;
  if (!upload.has(name("attn_k_b.weight"))) {
    const shape = { nRows: nHeads * period, nCols: latentDim, period, split: nopeDim };
    return upload.splitRows(name("attn_kv_b.weight"), shape);
  }
  return [
    upload.matrix(name("attn_k_b.weight"), latentDim, nopeDim, nHeads),
    upload.matrix(name("attn_v_b.weight"), vDim, latentDim, nHeads),
  ] as const;
}
