/**
 * Models whose step is one native call: ek_model of engine_kernels.h, for devices that have fused kernels for a kind of
 * model. Every method throws `bad_argument`, saying what was expected and found, where there are none.
 */
import type { BufferHandle, ContextHandle, ModelHandle, NativeAddon } from "./addon.ts";
import { guard } from "./guard.ts";
import type {
  FusedLayerWeights,
  FusedModelParams,
  FusedModelWeights,
  FusedStep,
  RandomTypes,
} from "./params.ts";

export class FusedModels {
  readonly #addon: NativeAddon;
  readonly #ctx: ContextHandle;

  constructor(addon: NativeAddon, ctx: ContextHandle) {
    this.#addon = addon;
    this.#ctx = ctx;
  }

  /** Bytes that a model takes beside its weights, before anything is loaded. */
  plan(params: FusedModelParams): { cacheBytes: number; workspaceBytes: number } {
    return guard(() => this.#addon.modelPlan(this.#ctx, ...described(params)));
  }

  /** The weights must live as long as the model. */
  create(params: FusedModelParams, weights: FusedModelWeights): ModelHandle {
    const { embedding, head, norm, layers } = weights;
    const matrices = [embedding, head, ...layers.flatMap(matricesOf)];
    const vectors = [norm, ...layers.flatMap(vectorsOf)];
    return guard(() => this.#addon.modelCreate(this.#ctx, ...described(params), matrices, vectors));
  }

  /** The same with random weights made on the device, for measurements. */
  createRandom(params: FusedModelParams, types: RandomTypes, seed: number): ModelHandle {
    return guard(() => this.#addon.modelCreateRandom(this.#ctx, ...described(params), types, seed));
  }

  /** Copies all rows of a block of the model's cache, in all layers. */
  copyBlock(model: ModelHandle, dst: number, src: number): void {
    guard(() => this.#addon.modelCopyBlock(this.#ctx, model, dst, src));
  }

  /** Random rows for positions 0 to nTokens - 1 in blocks 0, 1, …: as if so many tokens had been read. */
  fillCache(model: ModelHandle, nTokens: number, seed: number): void {
    guard(() => this.#addon.modelFillCache(this.#ctx, model, nTokens, seed));
  }

  /**
   * Computes a step and waits for it. logits (wanted rows, vocab) gets the wanted rows of all sequences, in order; returns
   * the most likely token of each, as `argmax` does.
   * A part of one token is decoded, a longer one is read by tensor cores, which round weights to bf16.
   */
  step(
    model: ModelHandle,
    step: FusedStep,
    logits: BufferHandle,
  ): { ids: Int32Array; logProbs: Float32Array } {
    const { start, nNew, nSeqBlocks, blocks, tokens, wants } = step;
    const arrays = [start, nNew, nSeqBlocks, blocks, tokens, wants] as const;
    const nRows = wants.reduce((sum, rows) => sum + rows, 0);
    const ids = new Int32Array(nRows);
    const logProbs = new Float32Array(nRows);
    guard(() => this.#addon.modelStep(this.#ctx, model, ...arrays, logits, ids, logProbs));
    return { ids, logProbs };
  }
}

/** In the order of ek_model_params. */
function described(p: FusedModelParams): [Int32Array, Float32Array, Float32Array] {
  const integers = [
    ...[p.nLayers, p.nDense, p.hidden, p.vocab],
    ...[p.nHeads, p.nopeDim, p.ropeDim, p.vDim, p.latentDim],
    ...[p.denseFf, p.nExperts, p.topK, p.ff, p.sharedFf],
    ...[p.scoreFunc, p.nGroups, p.topGroups, Number(p.normalize)],
    ...[p.nBlocks, p.chunk],
    ...[p.sparse?.cmpLen ?? 0, p.sparse?.cmpStride ?? 0, p.sparse?.selectN ?? 0],
    ...[p.sparse?.window ?? 0, p.sparse?.initBlocks ?? 0, p.sparse?.localBlocks ?? 0],
    Number(p.kvCache === "fp8"),
  ];
  const numbers = [p.scale, p.eps, p.softmaxScale];
  return [Int32Array.from(integers), Float32Array.from(numbers), p.invFreq];
}

/** In the order of ek_model_layer. */
function matricesOf({ q, kvA, latent, out, experts, shared }: FusedLayerWeights) {
  const dense = latent.kind === "dense" ? [latent.kB, latent.vB] : [null, null];
  const sparse = latent.kind === "sparse" ? [latent.kvB, latent.gate] : [null, null];
  const routed = [experts?.router, experts?.gate, experts?.up, experts?.down];
  return [
    ...[q, kvA, ...dense, out],
    ...routed.map((weight) => weight ?? null),
    ...[shared.gate, shared.up, shared.down, ...sparse],
  ];
}

/** In the order of ek_model_layer. */
function vectorsOf({ attnNorm, kvNorm, ffnNorm, latent, experts }: FusedLayerWeights) {
  const sparse =
    latent.kind === "sparse" ? [latent.gateBias, latent.phi.k, latent.phi.v] : [null, null, null];
  return [attnNorm, kvNorm, ffnNorm, ...sparse, experts?.routerBias ?? null];
}
