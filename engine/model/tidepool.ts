/** The forward pass of architecture `tidepool` (docs/model.md). Decoding and prefill are the same code over a batch. */
import type { BatchHandle, BufferHandle, KvCacheHandle, RopeHandle } from "../backend/addon.ts";
import type { Backend } from "../backend/backend.ts";
import { KV_BLOCK, type NsaParams, WEIGHT_TYPES } from "../backend/params.ts";
import { PagedKv } from "../kvcache/pagedKv.ts";
import type { GgufFile } from "../loader/gguf.ts";
import type { Model, StepLogits, StepPart } from "./model.ts";
import { parseTidepoolConfig, type TidepoolConfig } from "./tidepoolConfig.ts";
import {
  type LayerWeights,
  type TidepoolWeights,
  uploadTidepoolWeights,
} from "./tidepoolWeights.ts";

export interface TidepoolOptions {
  /** Context to offer; the file's own when it is smaller or this is missing. */
  contextLength?: number;
  /** f32 rows in the cache, for exact comparisons; default f16. */
  exactCache?: boolean;
  maxStepTokens?: number;
  maxStepSequences?: number;
}

/** Activations of a step, (nTokens, …) each. */
interface Activations {
  x: BufferHandle;
  normed: BufferHandle;
  q: BufferHandle;
  kvA: BufferHandle;
  gates: BufferHandle;
  heads: BufferHandle;
  last: BufferHandle;
  lastNormed: BufferHandle;
  logits: BufferHandle;
}

export class TidepoolModel implements Model {
  readonly contextLength: number;
  readonly vocab: number;
  readonly kv: PagedKv;
  readonly kvBytes: number;
  readonly maxStepTokens: number;
  readonly maxStepSequences: number;
  private readonly backend: Backend;
  private readonly config: TidepoolConfig;
  private readonly weights: TidepoolWeights;
  private readonly cache: KvCacheHandle;
  private readonly rope: RopeHandle;
  private readonly batch: BatchHandle;
  private readonly act: Activations;
  private readonly nsa: NsaParams;

  /** Uploads the weights of `gguf` and allocates cache and activations. Throws `bad_model` or a backend's error. */
  constructor(backend: Backend, gguf: GgufFile, options: TidepoolOptions = {}) {
    const config = parseTidepoolConfig(gguf);
    this.backend = backend;
    this.config = config;
    this.vocab = config.vocab;
    this.contextLength = Math.min(
      config.contextLength,
      options.contextLength ?? config.contextLength,
    );
    this.maxStepTokens = options.maxStepTokens ?? 512;
    this.maxStepSequences = options.maxStepSequences ?? 16;
    this.weights = uploadTidepoolWeights(backend, gguf, config);
    const nBlocks = cacheBlocks(this.contextLength);
    this.cache = backend.createKvCache({
      nLayers: config.nLayers,
      latentDim: config.latentDim,
      ropeDim: config.ropeDim,
      nBlocks,
      cmpLen: config.nsa.cmpLen,
      cmpStride: config.nsa.cmpStride,
      type: options.exactCache ? WEIGHT_TYPES.f32 : WEIGHT_TYPES.f16,
    });
    this.kvBytes = backend.kvBytes(this.cache);
    this.kv = new PagedKv(nBlocks, (dst, src) => backend.copyBlock(this.cache, dst, src));
    this.rope = backend.createRope(config.invFreq);
    this.batch = backend.createBatch();
    this.act = allocActivations(backend, config, this.maxStepTokens, this.maxStepSequences);
    const { selectBlock, selectN, window, initBlocks, localBlocks } = config.nsa;
    const { nHeads, nopeDim, vDim, softmaxScale } = config;
    this.nsa = {
      nHeads,
      nopeDim,
      vDim,
      softmaxScale,
      selectBlock,
      selectN,
      window,
      initBlocks,
      localBlocks,
    };
  }

  forward(parts: readonly StepPart[]): StepLogits {
    const { backend, weights, act, config } = this;
    const tokens = Int32Array.from(parts.flatMap((part) => part.tokens));
    this.setBatch(parts);
    backend.embed(act.x, weights.embedding, tokens);
    for (const [index, layer] of weights.layers.entries()) {
      this.attention(layer, index, tokens.length);
      this.feedForward(layer, tokens.length);
    }
    const rows = wantedRows(parts);
    if (rows.length > 0) {
      backend.gatherRows(act.last, act.x, rows, config.hidden);
      backend.rmsnorm(
        act.lastNormed,
        act.last,
        weights.outputNorm,
        rows.length,
        config.hidden,
        config.eps,
      );
      backend.linear(act.logits, act.lastNormed, weights.embedding, rows.length);
    }
    return {
      greedy: () => backend.argmax(act.logits, config.vocab, rows.length),
      row: (index) => {
        const logits = new Float32Array(config.vocab);
        backend.download(logits, act.logits, index * config.vocab * 4);
        return logits;
      },
    };
  }

  /** x += attention(rms(x)). */
  private attention(layer: LayerWeights, index: number, n: number): void {
    const { backend, act, config } = this;
    backend.rmsnorm(act.normed, act.x, layer.attnNorm, n, config.hidden, config.eps);
    backend.linear(act.q, act.normed, layer.q, n);
    backend.linear(act.kvA, act.normed, layer.kvA, n);
    backend.linear(act.gates, act.normed, layer.gate, n, { bias: layer.gateBias });
    backend.mlaStore(this.cache, index, this.batch, act.kvA, layer.kvANorm, layer.phi, config.eps);
    backend.nsaAttention(
      act.heads,
      act.q,
      act.gates,
      this.cache,
      index,
      this.batch,
      layer.kvB,
      this.nsa,
    );
    backend.linear(act.x, act.heads, layer.output, n, { accumulate: true });
  }

  /** x += feedforward(rms(x)): dense in the first layers, experts in the rest. */
  private feedForward(layer: LayerWeights, n: number): void {
    const { backend, act, config } = this;
    backend.rmsnorm(act.normed, act.x, layer.ffnNorm, n, config.hidden, config.eps);
    if (layer.ffn.kind === "dense") {
      const { gate, up, down } = layer.ffn.weights;
      backend.ffnSwiglu(act.x, act.normed, gate, up, down, n);
      return;
    }
    const { router, routerBias, gate, up, down, shared } = layer.ffn.weights;
    const { topK, scoreFunc, normalize, scale } = config.moe;
    const experts = { router, routerBias, gate, up, down, topK, scoreFunc, normalize, scale };
    backend.moe(act.x, act.normed, shared === undefined ? experts : { ...experts, shared }, n);
  }

  private setBatch(parts: readonly StepPart[]): void {
    const nBlocks = (part: StepPart) =>
      Math.ceil((part.sequence.tokens.length + part.tokens.length) / KV_BLOCK);
    this.backend.setBatch(this.batch, this.rope, {
      start: Int32Array.from(parts, (part) => part.sequence.tokens.length),
      nNew: Int32Array.from(parts, (part) => part.tokens.length),
      nSeqBlocks: Int32Array.from(parts, nBlocks),
      blocks: Int32Array.from(
        parts.flatMap((part) => part.sequence.blocks.slice(0, nBlocks(part))),
      ),
    });
  }
}

/** Room for one request of the whole context, and for what other files' requests left. */
function cacheBlocks(contextLength: number): number {
  return Math.ceil((contextLength * 5) / 4 / KV_BLOCK) + 16;
}

/** Index of the last new token of each part that wants logits. */
function wantedRows(parts: readonly StepPart[]): Int32Array {
  const rows: number[] = [];
  let end = 0;
  for (const part of parts) {
    end += part.tokens.length;
    if (part.wantsLogits) rows.push(end - 1);
  }
  return Int32Array.from(rows);
}

function allocActivations(
  backend: Backend,
  c: TidepoolConfig,
  nTokens: number,
  nRows: number,
): Activations {
  const floats = (rows: number, columns: number) => backend.alloc(rows * columns * 4);
  return {
    x: floats(nTokens, c.hidden),
    normed: floats(nTokens, c.hidden),
    q: floats(nTokens, c.nHeads * (c.nopeDim + c.ropeDim)),
    kvA: floats(nTokens, c.latentDim + c.ropeDim),
    gates: floats(nTokens, c.nHeads * 3),
    heads: floats(nTokens, c.nHeads * c.vDim),
    last: floats(nRows, c.hidden),
    lastNormed: floats(nRows, c.hidden),
    logits: floats(nRows, c.vocab),
  };
}
