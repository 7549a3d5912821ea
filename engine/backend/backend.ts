/**
 * Typed face of the kernels: engine_kernels.h one to one, with typed arrays at the edges.
 * Shapes are (rows, columns), row-major; activations are f32 in device buffers. Formulas: docs/model.md.
 * A Backend and its handles belong to one thread. Every failure is an EngineError: `bad_argument`, `out_of_memory`,
 * `device` or `internal`.
 */
import type {
  AnyHandle,
  AttentionTimes,
  BatchHandle,
  BufferHandle,
  ContextHandle,
  KvCacheHandle,
  MappingHandle,
  NativeAddon,
  OpProfile,
  RopeHandle,
  WeightHandle,
} from "./addon.ts";
import { FusedModels } from "./fusedModels.ts";
import { guard } from "./guard.ts";
import { loadAddon } from "./native.ts";
import type {
  BackendOptions,
  BatchParams,
  Device,
  KvParams,
  MlaParams,
  MoeParams,
  NsaParams,
  WeightShape,
} from "./params.ts";

const DEVICE_NUMBER: Record<Device, number> = { cpu: 0, cuda: 1, reference: 2 };

export class Backend {
  readonly #addon: NativeAddon;
  readonly #ctx: ContextHandle;

  private constructor(addon: NativeAddon, ctx: ContextHandle) {
    this.#addon = addon;
    this.#ctx = ctx;
  }

  /** Loads the addon and opens a device. */
  static open(options: BackendOptions): Backend {
    const addon = loadAddon();
    const ctx = guard(() =>
      addon.contextCreate(
        DEVICE_NUMBER[options.device],
        0,
        options.nThreads ?? 0,
        options.isa ?? null,
      ),
    );
    return new Backend(addon, ctx);
  }

  /** One line: device, instruction set, threads. */
  describe(): string {
    return guard(() => this.#addon.contextDescribe(this.#ctx));
  }

  /** Ends the context; every later call fails. Handles stay to be disposed. */
  close(): void {
    guard(() => this.#addon.release(this.#ctx));
  }

  /** Frees a native object now; using it afterwards fails. A second dispose does nothing. */
  dispose(handle: AnyHandle): void {
    guard(() => this.#addon.release(handle));
  }

  alloc(nBytes: number): BufferHandle {
    return guard(() => this.#addon.bufferAlloc(this.#ctx, nBytes));
  }

  /** A buffer that holds `data`. */
  allocFrom(data: Float32Array | Int32Array): BufferHandle {
    const buffer = this.alloc(data.byteLength);
    this.upload(buffer, 0, data);
    return buffer;
  }

  /** Copies all of `src` to byte `offset` of `dst`. */
  upload(dst: BufferHandle, offset: number, src: Float32Array | Int32Array): void {
    guard(() => this.#addon.bufferUpload(this.#ctx, dst, offset, src));
  }

  /** Fills all of `dst` from byte `offset` of `src`. */
  download(dst: Float32Array | Int32Array, src: BufferHandle, offset: number): void {
    guard(() => this.#addon.bufferDownload(this.#ctx, dst, src, offset));
  }

  openMapping(path: string): { mapping: MappingHandle; nBytes: number } {
    return guard(() => {
      const mapping = this.#addon.mappingOpen(path);
      return { mapping, nBytes: this.#addon.mappingBytes(mapping) };
    });
  }

  /** Reads and repacks a weight at byte `offset` of a mapping; the mapping may be disposed afterwards. */
  createWeight(mapping: MappingHandle, offset: number, shape: WeightShape): WeightHandle {
    const { type, nMatrices, nRows, nCols } = shape;
    return guard(() =>
      this.#addon.weightCreate(this.#ctx, mapping, offset, type, nMatrices, nRows, nCols),
    );
  }

  createWeightFromMemory(data: ArrayBufferView, shape: WeightShape): WeightHandle {
    const { type, nMatrices, nRows, nCols } = shape;
    return guard(() =>
      this.#addon.weightCreateFromMemory(this.#ctx, data, type, nMatrices, nRows, nCols),
    );
  }

  /** invFreq (ropeDim / 2): angle per position of each interleaved pair. */
  createRope(invFreq: Float32Array): RopeHandle {
    return guard(() => this.#addon.ropeCreate(this.#ctx, invFreq));
  }

  createKvCache(params: KvParams): KvCacheHandle {
    const { nLayers, latentDim, ropeDim, nBlocks, cmpLen, cmpStride, type } = params;
    return guard(() =>
      this.#addon.kvCreate(
        this.#ctx,
        nLayers,
        latentDim,
        ropeDim,
        nBlocks,
        cmpLen,
        cmpStride,
        type,
      ),
    );
  }

  copyBlock(kv: KvCacheHandle, dstBlock: number, srcBlock: number): void {
    guard(() => this.#addon.kvCopyBlock(this.#ctx, kv, dstBlock, srcBlock));
  }

  /** Reserved bytes of all blocks. */
  kvBytes(kv: KvCacheHandle): number {
    return guard(() => this.#addon.kvBytes(kv));
  }

  createBatch(): BatchHandle {
    return guard(() => this.#addon.batchCreate(this.#ctx));
  }

  setBatch(batch: BatchHandle, rope: RopeHandle, params: BatchParams): void {
    const { start, nNew, nSeqBlocks, blocks } = params;
    guard(() => this.#addon.batchSet(this.#ctx, batch, rope, start, nNew, nSeqBlocks, blocks));
  }

  /** out (nTokens, dim) = rows `tokens` of table (vocab, dim). */
  embed(out: BufferHandle, table: WeightHandle, tokens: Int32Array): void {
    guard(() => this.#addon.embed(this.#ctx, out, table, tokens));
  }

  /** out[r,:] = x[r,:] / rms(x[r,:]) * weight[:]; x, out (nRows, dim); weight (dim). */
  rmsnorm(
    out: BufferHandle,
    x: BufferHandle,
    weight: BufferHandle,
    nRows: number,
    dim: number,
    eps: number,
  ): void {
    guard(() => this.#addon.rmsnorm(this.#ctx, out, x, weight, nRows, dim, eps));
  }

  /** out (nRows, w.nRows) = x (nRows, w.nCols) W^T, plus bias and plus what `out` held when asked for. */
  linear(
    out: BufferHandle,
    x: BufferHandle,
    w: WeightHandle,
    nRows: number,
    options: { xRow?: number; bias?: BufferHandle; accumulate?: boolean } = {},
  ): void {
    const { xRow = 0, bias = null, accumulate = false } = options;
    guard(() => this.#addon.linear(this.#ctx, out, x, xRow, w, bias, nRows, accumulate));
  }

  /** out[i,:] = x[rows[i],:]; x (*, dim). */
  gatherRows(out: BufferHandle, x: BufferHandle, rows: Int32Array, dim: number): void {
    guard(() => this.#addon.gatherRows(this.#ctx, out, x, rows, dim));
  }

  /** out[r,:] = [a[r,:] ; b[r,:]]; a, b (nRows, dim). */
  concat(out: BufferHandle, a: BufferHandle, b: BufferHandle, nRows: number, dim: number): void {
    guard(() => this.#addon.concat(this.#ctx, out, a, b, nRows, dim));
  }

  /** out += down(silu(gate x) * up x); x, out (nRows, dim). */
  ffnSwiglu(
    out: BufferHandle,
    x: BufferHandle,
    gate: WeightHandle,
    up: WeightHandle,
    down: WeightHandle,
    nRows: number,
  ): void {
    guard(() => this.#addon.ffnSwiglu(this.#ctx, out, x, gate, up, down, nRows));
  }

  /** out += routed and shared experts of x; x, out (nRows, dim). */
  moe(out: BufferHandle, x: BufferHandle, p: MoeParams, nRows: number): void {
    const s = p.shared;
    guard(() =>
      this.#addon.moe(
        this.#ctx,
        out,
        x,
        p.router,
        p.routerBias ?? null,
        p.gate,
        p.up,
        p.down,
        s?.gate ?? null,
        s?.up ?? null,
        s?.down ?? null,
        p.topK,
        p.scoreFunc,
        p.nGroups,
        p.topGroups,
        p.normalize,
        p.scale,
        nRows,
      ),
    );
  }

  /**
   * Writes the cache rows of the batch's tokens, and the pooled rows that they complete.
   * kvA (nTokens, latent + rope), norm (latent), cmpK (cmpLen, latent + rope), cmpV (cmpLen, latent).
   */
  mlaStore(
    kv: KvCacheHandle,
    layer: number,
    batch: BatchHandle,
    kvA: BufferHandle,
    norm: BufferHandle,
    phi: { k: BufferHandle; v: BufferHandle } | null,
    eps: number,
  ): void {
    guard(() =>
      this.#addon.mlaStore(
        this.#ctx,
        kv,
        layer,
        batch,
        kvA,
        norm,
        phi?.k ?? null,
        phi?.v ?? null,
        eps,
      ),
    );
  }

  /**
   * out (nTokens, nHeads * vDim): gated sum of the three branches, before the output projection.
   * q (nTokens, nHeads * (nope + rope)) not yet rotated; gates (nTokens, nHeads * 3) before the sigmoid;
   * kvB (nHeads * (nope + v), latent). The batch's rows must have been stored in this layer.
   */
  nsaAttention(
    out: BufferHandle,
    q: BufferHandle,
    gates: BufferHandle,
    kv: KvCacheHandle,
    layer: number,
    batch: BatchHandle,
    kvB: WeightHandle,
    p: NsaParams,
  ): void {
    guard(() =>
      this.#addon.nsaAttention(
        this.#ctx,
        out,
        q,
        gates,
        kv,
        layer,
        batch,
        kvB,
        p.nHeads,
        p.nopeDim,
        p.vDim,
        p.softmaxScale,
        p.selectBlock,
        p.selectN,
        p.window,
        p.initBlocks,
        p.localBlocks,
      ),
    );
  }

  /** As nsaAttention with one branch, which attends to every token up to the query's own. */
  mlaAttention(
    out: BufferHandle,
    q: BufferHandle,
    kv: KvCacheHandle,
    layer: number,
    batch: BatchHandle,
    kvB: WeightHandle,
    { nHeads, nopeDim, vDim, softmaxScale }: MlaParams,
  ): void {
    const heads = [nHeads, nopeDim, vDim, softmaxScale] as const;
    guard(() => this.#addon.mlaAttention(this.#ctx, out, q, kv, layer, batch, kvB, ...heads));
  }

  /** For each row of logits (ids.length, vocab): index of the largest (ties: lowest), and its log-probability. */
  argmax(
    logits: BufferHandle,
    vocab: number,
    nRows: number,
  ): { ids: Int32Array; logProbs: Float32Array } {
    const ids = new Int32Array(nRows);
    const logProbs = new Float32Array(nRows);
    guard(() => this.#addon.argmax(this.#ctx, logits, vocab, ids, logProbs));
    return { ids, logProbs };
  }

  /** Starts counting; profiling is off until the first call. */
  profileReset(): void {
    guard(() => this.#addon.profileReset(this.#ctx));
  }

  profileRead(): OpProfile[] {
    return guard(() => this.#addon.profileRead(this.#ctx));
  }

  /** TFLOP/s of bf16 products by the device's matrix units. Throws `bad_argument` where ops do not use any. */
  measureMatrixRate(): number {
    return guard(() => this.#addon.measureMatrixRate(this.#ctx));
  }

  /**
   * Attention alone of Coder-V2-Lite's shape: a token of each of `batch` sequences of nTokens, or for 0 a prompt of
   * them. Throws `bad_argument` where there are no such kernels, `out_of_memory` without room.
   */
  measureAttention(nTokens: number, batch: number, rounds: number): AttentionTimes {
    return guard(() => this.#addon.measureAttention(this.#ctx, nTokens, batch, rounds));
  }

  /** Bytes of the device's own memory; undefined where ops work in the machine's. */
  deviceMemory(): { freeBytes: number; totalBytes: number } | undefined {
    const memory = guard(() => this.#addon.deviceMemory(this.#ctx));
    return memory.totalBytes > 0 ? memory : undefined;
  }

  /** Whole models in fused kernels, where this device has them. */
  get fusedModels(): FusedModels {
    return new FusedModels(this.#addon, this.#ctx);
  }

  /** The machine's own limits with this context's threads: read bandwidth over nBytes, and f32 multiply-add rate. */
  measureLimits(nBytes: number): { gbPerS: number; gflopPerS: number } {
    return guard(() => this.#addon.measureLimits(this.#ctx, nBytes));
  }
}
