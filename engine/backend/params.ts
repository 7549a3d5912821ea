/** What ops and objects of the backend are made with: the parameter structures of engine_kernels.h. */
import type { BufferHandle, WeightHandle } from "./addon.ts";

export type Device = "cpu" | "cuda" | "reference";

/** GGUF's numbers of the tensor types that the kernels read. */
export const WEIGHT_TYPES = {
  f32: 0,
  f16: 1,
  q4_0: 2,
  q5_0: 6,
  q8_0: 8,
  q4_K: 12,
  q5_K: 13,
  q6_K: 14,
  bf16: 30,
} as const;
export type WeightType = (typeof WEIGHT_TYPES)[keyof typeof WEIGHT_TYPES];

/** Tokens per block of the cache. */
export const KV_BLOCK = 64;

export interface BackendOptions {
  device: Device;
  /** 0 (default): all physical cores. The calling thread is one of them. */
  nThreads?: number;
  /** Forces an instruction set of the CPU; default: the best that the machine has. */
  isa?: "scalar" | "avx2" | "avx512" | "neon";
}

/** A stack of `nMatrices` matrices (nRows, nCols). */
export interface WeightShape {
  type: WeightType;
  nMatrices: number;
  nRows: number;
  nCols: number;
}

export interface KvParams {
  nLayers: number;
  latentDim: number;
  ropeDim: number;
  /** Capacity in blocks of KV_BLOCK tokens; memory is used when a block is first written. */
  nBlocks: number;
  /** NSA's l and d; `cmpLen` 0: no pooled rows. */
  cmpLen: number;
  cmpStride: number;
  /** f16, or f32 for exact tests. */
  type: WeightType;
}

/** A step: sequence s adds nNew[s] tokens at positions start[s] on; `blocks` holds all block ids, concatenated. */
export interface BatchParams {
  start: Int32Array;
  nNew: Int32Array;
  nSeqBlocks: Int32Array;
  blocks: Int32Array;
}

export interface MoeParams {
  /** (nExperts, dim) f32. */
  router: WeightHandle;
  /** (nExperts) f32: only for choosing. */
  routerBias?: BufferHandle;
  /** nExperts x (ff, dim). */
  gate: WeightHandle;
  up: WeightHandle;
  /** nExperts x (dim, ff). */
  down: WeightHandle;
  shared?: { gate: WeightHandle; up: WeightHandle; down: WeightHandle };
  topK: number;
  /** 1: softmax over all experts; 2: sigmoid. */
  scoreFunc: number;
  /** Experts are chosen from the best `topGroups` of `nGroups` equal groups; 1 and 1: from all. */
  nGroups: number;
  topGroups: number;
  normalize: boolean;
  scale: number;
}

export interface MlaParams {
  nHeads: number;
  /** Plain part of a query and key head; the rotary part follows it. */
  nopeDim: number;
  vDim: number;
  softmaxScale: number;
}

export interface NsaParams extends MlaParams {
  selectBlock: number;
  selectN: number;
  window: number;
  initBlocks: number;
  localBlocks: number;
}

export const KV_CACHE_FORMATS = ["bf16", "fp8"] as const;
export type KvCacheFormat = (typeof KV_CACHE_FORMATS)[number];

/** Native sparse attention: ek_model_sparse. */
export interface FusedSparseParams {
  cmpLen: number;
  cmpStride: number;
  selectN: number;
  window: number;
  initBlocks: number;
  localBlocks: number;
}

/** Everything that decides whether fused kernels compute a model, and what it takes: ek_model_params. */
export interface FusedModelParams {
  nLayers: number;
  /** The first ones have a dense feed-forward. */
  nDense: number;
  hidden: number;
  vocab: number;
  nHeads: number;
  nopeDim: number;
  ropeDim: number;
  vDim: number;
  latentDim: number;
  denseFf: number;
  nExperts: number;
  topK: number;
  ff: number;
  /** Of the shared experts together. */
  sharedFf: number;
  /** As in MoeParams. */
  scoreFunc: number;
  nGroups: number;
  topGroups: number;
  normalize: boolean;
  scale: number;
  eps: number;
  softmaxScale: number;
  /** (ropeDim / 2): angle per position of each interleaved pair. */
  invFreq: Float32Array;
  /** Capacity of the cache in blocks of KV_BLOCK tokens. */
  nBlocks: number;
  /** Tokens that are read at once; longer parts of a step are cut. */
  chunk: number;
  /** Undefined: every token is attended to, or as the kernels thin it out without training. */
  sparse: FusedSparseParams | undefined;
  /** How cached rows lie; fp8: 656 bytes instead of 1152. */
  kvCache: KvCacheFormat;
}

export interface FusedLatentWeights {
  kind: "dense";
  /** W_UK of each head: (nope, latent), or transposed. */
  kB: WeightHandle;
  /** W_UV of each head: (v, latent). */
  vB: WeightHandle;
}

/** What native sparse attention takes instead. */
export interface FusedSparseWeights {
  kind: "sparse";
  /** W_UK and W_UV of all heads, one matrix. */
  kvB: WeightHandle;
  gate: WeightHandle;
  gateBias: BufferHandle;
  phi: { k: BufferHandle; v: BufferHandle };
}

export interface FusedExpertWeights {
  router: WeightHandle;
  /** Undefined: experts are chosen by their scores alone. */
  routerBias: BufferHandle | undefined;
  gate: WeightHandle;
  up: WeightHandle;
  down: WeightHandle;
}

export interface FusedLayerWeights {
  attnNorm: BufferHandle;
  kvNorm: BufferHandle;
  ffnNorm: BufferHandle;
  q: WeightHandle;
  kvA: WeightHandle;
  latent: FusedLatentWeights | FusedSparseWeights;
  out: WeightHandle;
  /** Undefined in a dense layer. */
  experts: FusedExpertWeights | undefined;
  /** The shared experts, or a dense layer's feed-forward. */
  shared: { gate: WeightHandle; up: WeightHandle; down: WeightHandle };
}

export interface FusedModelWeights {
  embedding: WeightHandle;
  head: WeightHandle;
  norm: BufferHandle;
  layers: readonly FusedLayerWeights[];
}

/** Weights whose types are mixed as in files of that name. */
export const RANDOM_TYPES = ["q4_k_m", "q8_0", "fp8", "bf16"] as const;
export type RandomTypes = (typeof RANDOM_TYPES)[number];

/** A step of a whole model: a batch, its tokens, and behind how many of its last tokens each sequence wants logits. */
export interface FusedStep extends BatchParams {
  tokens: Int32Array;
  wants: Uint8Array;
}
