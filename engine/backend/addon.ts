/** What the native addon exports, and the opaque handles that it hands out. Only backend.ts calls these functions. */

declare const kind: unique symbol;

/** A native object of one kind; freed by `Backend.dispose`, or by the garbage collector when it is forgotten. */
interface Handle<K extends string> {
  readonly [kind]: K;
}

/** Attention alone, dense and sparse: ek_attention_times. */
export interface AttentionTimes {
  denseUs: number;
  sparseUs: number;
  sharedUs: number;
  denseBytes: number;
  sparseBytes: number;
  denseFlops: number;
  sparseFlops: number;
  sharedFlops: number;
}

export type ContextHandle = Handle<"context">;
/** Device memory. */
export type BufferHandle = Handle<"buffer">;
/** A file mapped read-only. */
export type MappingHandle = Handle<"mapping">;
/** A matrix, or a stack of equal matrices, in the backend's own layout. */
export type WeightHandle = Handle<"weight">;
/** Rotary frequencies. */
export type RopeHandle = Handle<"rope">;
/** Paged latent rows and pooled rows of all layers. */
export type KvCacheHandle = Handle<"kv">;
/** Which tokens of which sequences a step computes. */
export type BatchHandle = Handle<"batch">;

/** A whole model whose step is one call, with a cache of its own. */
export type ModelHandle = Handle<"model">;

export type AnyHandle =
  | BufferHandle
  | MappingHandle
  | WeightHandle
  | RopeHandle
  | KvCacheHandle
  | BatchHandle
  | ModelHandle;

/** Time and traffic of one kind of op since the last reset; multiply-adds count as two operations. */
export interface OpProfile {
  op: string;
  calls: number;
  ns: number;
  /** Weights and cache rows read. */
  bytes: number;
  flops: number;
}

/** Positional mirror of engine_kernels.h. Each function throws an Error whose `code` is an `EngineErrorCode`. */
export interface NativeAddon {
  abiVersion(): number;
  release(handle: AnyHandle | ContextHandle): void;
  contextCreate(
    device: number,
    ordinal: number,
    nThreads: number,
    isa: string | null,
  ): ContextHandle;
  contextDescribe(ctx: ContextHandle): string;
  bufferAlloc(ctx: ContextHandle, nBytes: number): BufferHandle;
  bufferUpload(ctx: ContextHandle, dst: BufferHandle, offset: number, src: ArrayBufferView): void;
  bufferDownload(ctx: ContextHandle, dst: ArrayBufferView, src: BufferHandle, offset: number): void;
  mappingOpen(path: string): MappingHandle;
  mappingBytes(mapping: MappingHandle): number;
  weightCreate(
    ctx: ContextHandle,
    mapping: MappingHandle,
    offset: number,
    type: number,
    nMatrices: number,
    nRows: number,
    nCols: number,
  ): WeightHandle;
  weightCreateFromMemory(
    ctx: ContextHandle,
    data: ArrayBufferView,
    type: number,
    nMatrices: number,
    nRows: number,
    nCols: number,
  ): WeightHandle;
  ropeCreate(ctx: ContextHandle, invFreq: Float32Array): RopeHandle;
  kvCreate(
    ctx: ContextHandle,
    nLayers: number,
    latentDim: number,
    ropeDim: number,
    nBlocks: number,
    cmpLen: number,
    cmpStride: number,
    type: number,
  ): KvCacheHandle;
  kvCopyBlock(ctx: ContextHandle, kv: KvCacheHandle, dst: number, src: number): void;
  kvBytes(kv: KvCacheHandle): number;
  batchCreate(ctx: ContextHandle): BatchHandle;
  batchSet(
    ctx: ContextHandle,
    batch: BatchHandle,
    rope: RopeHandle,
    start: Int32Array,
    nNew: Int32Array,
    nSeqBlocks: Int32Array,
    blocks: Int32Array,
  ): void;
  embed(ctx: ContextHandle, out: BufferHandle, table: WeightHandle, tokens: Int32Array): void;
  rmsnorm(
    ctx: ContextHandle,
    out: BufferHandle,
    x: BufferHandle,
    weight: BufferHandle,
    nRows: number,
    dim: number,
    eps: number,
  ): void;
  linear(
    ctx: ContextHandle,
    out: BufferHandle,
    x: BufferHandle,
    xRow: number,
    w: WeightHandle,
    bias: BufferHandle | null,
    nRows: number,
    accumulate: boolean,
  ): void;
  gatherRows(
    ctx: ContextHandle,
    out: BufferHandle,
    x: BufferHandle,
    rows: Int32Array,
    dim: number,
  ): void;
  concat(
    ctx: ContextHandle,
    out: BufferHandle,
    a: BufferHandle,
    b: BufferHandle,
    nRows: number,
    dim: number,
  ): void;
  ffnSwiglu(
    ctx: ContextHandle,
    out: BufferHandle,
    x: BufferHandle,
    gate: WeightHandle,
    up: WeightHandle,
    down: WeightHandle,
    nRows: number,
  ): void;
  moe(
    ctx: ContextHandle,
    out: BufferHandle,
    x: BufferHandle,
    router: WeightHandle,
    routerBias: BufferHandle | null,
    gate: WeightHandle,
    up: WeightHandle,
    down: WeightHandle,
    sharedGate: WeightHandle | null,
    sharedUp: WeightHandle | null,
    sharedDown: WeightHandle | null,
    topK: number,
    scoreFunc: number,
    nGroups: number,
    topGroups: number,
    normalize: boolean,
    scale: number,
    nRows: number,
  ): void;
  mlaStore(
    ctx: ContextHandle,
    kv: KvCacheHandle,
    layer: number,
    batch: BatchHandle,
    kvA: BufferHandle,
    norm: BufferHandle,
    cmpK: BufferHandle | null,
    cmpV: BufferHandle | null,
    eps: number,
  ): void;
  nsaAttention(
    ctx: ContextHandle,
    out: BufferHandle,
    q: BufferHandle,
    gates: BufferHandle,
    kv: KvCacheHandle,
    layer: number,
    batch: BatchHandle,
    kvB: WeightHandle,
    nHeads: number,
    nopeDim: number,
    vDim: number,
    softmaxScale: number,
    selectBlock: number,
    selectN: number,
    window: number,
    initBlocks: number,
    localBlocks: number,
  ): void;
  mlaAttention(
    ctx: ContextHandle,
    out: BufferHandle,
    q: BufferHandle,
    kv: KvCacheHandle,
    layer: number,
    batch: BatchHandle,
    kvB: WeightHandle,
    nHeads: number,
    nopeDim: number,
    vDim: number,
    softmaxScale: number,
  ): void;
  argmax(
    ctx: ContextHandle,
    logits: BufferHandle,
    vocab: number,
    ids: Int32Array,
    logProbs: Float32Array,
  ): void;
  profileReset(ctx: ContextHandle): void;
  profileRead(ctx: ContextHandle): OpProfile[];
  measureLimits(ctx: ContextHandle, nBytes: number): { gbPerS: number; gflopPerS: number };
  measureMatrixRate(ctx: ContextHandle): number;
  measureAttention(
    ctx: ContextHandle,
    nTokens: number,
    batch: number,
    rounds: number,
  ): AttentionTimes;
  deviceMemory(ctx: ContextHandle): { freeBytes: number; totalBytes: number };
  /** The three arrays that describe a model: ek_model_params, integers first, then scale, eps and softmaxScale. */
  modelPlan(
    ctx: ContextHandle,
    integers: Int32Array,
    numbers: Float32Array,
    invFreq: Float32Array,
  ): { cacheBytes: number; workspaceBytes: number };
  /** weights: embedding, head, and 14 of each layer; vectors: the last norm, and 7 of each layer; as ek_model_layer. */
  modelCreate(
    ctx: ContextHandle,
    integers: Int32Array,
    numbers: Float32Array,
    invFreq: Float32Array,
    weights: readonly (WeightHandle | null)[],
    vectors: readonly (BufferHandle | null)[],
  ): ModelHandle;
  modelCreateRandom(
    ctx: ContextHandle,
    integers: Int32Array,
    numbers: Float32Array,
    invFreq: Float32Array,
    types: string,
    seed: number,
  ): ModelHandle;
  modelCopyBlock(ctx: ContextHandle, model: ModelHandle, dst: number, src: number): void;
  modelFillCache(ctx: ContextHandle, model: ModelHandle, nTokens: number, seed: number): void;
  modelStep(
    ctx: ContextHandle,
    model: ModelHandle,
    start: Int32Array,
    nNew: Int32Array,
    nSeqBlocks: Int32Array,
    blocks: Int32Array,
    tokens: Int32Array,
    wants: Uint8Array,
    logits: BufferHandle,
    ids: Int32Array,
    logProbs: Float32Array,
  ): void;
}
