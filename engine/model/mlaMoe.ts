/**
 * The forward pass of models with latent attention and experts: `tidepool` (docs/model.md) and `deepseek2`.
 * Decoding and prefill are the same code over a batch.
 */
import type { BatchHandle, BufferHandle, KvCacheHandle, RopeHandle } from "../backend/addon.ts";
import type { Backend } from "../backend/backend.ts";
import { KV_BLOCK, type MlaParams, type NsaParams, WEIGHT_TYPES } from "../backend/params.ts";
import { PagedKv } from "../kvcache/pagedKv.ts";
import type { GgufFile } from "../loader/gguf.ts";
import { contextOnGpu } from "./gpuMemoryPlan.ts";
import { cacheBlocks, contextThatFits } from "./memoryPlan.ts";
import type { MlaMoeConfig } from "./mlaMoeConfig.ts";
import {
  type LayerWeights,
  type MlaMoeWeights,
  type QueryWeights,
  uploadMlaMoeWeights,
} from "./mlaMoeWeights.ts";
import { type Model, nLogitsOf, type StepLogits, type StepPart } from "./model.ts";
import { parseMlaMoeConfig } from "./parseConfig.ts";

/** Drafts of a step: each takes a row of logits. Longer ones pay nowhere that was measured. */
const MOST_DRAFTS = 32;

export interface MlaMoeOptions {
  /** Context to offer; the file's own when it is smaller, and as much of that as memory holds when this is missing. */
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
  queryLatent: BufferHandle;
  kvA: BufferHandle;
  gates: BufferHandle;
  heads: BufferHandle;
  last: BufferHandle;
  lastNormed: BufferHandle;
  logits: BufferHandle;
}

export class MlaMoeModel implements Model {
  readonly contextLength: number;
  readonly vocab: number;
  readonly kv: PagedKv;
  readonly kvBytes: number;
  readonly maxStepTokens: number;
  readonly maxStepSequences: number;
  readonly maxStepDrafts = MOST_DRAFTS;
  private readonly backend: Backend;
  private readonly config: MlaMoeConfig;
  private readonly weights: MlaMoeWeights;
  private readonly cache: KvCacheHandle;
  private readonly rope: RopeHandle;
  private readonly batch: BatchHandle;
  private readonly act: Activations;
  private readonly heads: MlaParams;
  private readonly nsa: NsaParams | undefined;

  /** Uploads the weights of `gguf` and allocates cache and activations. Throws `bad_model`, `out_of_memory` or a backend's error. */
  constructor(backend: Backend, gguf: GgufFile, options: MlaMoeOptions = {}) {
    const config = parseMlaMoeConfig(gguf);
    this.backend = backend;
    this.config = config;
    this.vocab = config.vocab;
    this.contextLength =
      backend.deviceMemory() === undefined
        ? contextThatFits(gguf, config, options.contextLength)
        : contextOnGpu({ backend, gguf, config, fused: false }, options.contextLength);
    this.maxStepTokens = options.maxStepTokens ?? 512;
    this.maxStepSequences = options.maxStepSequences ?? 16;
    this.weights = uploadMlaMoeWeights(backend, gguf, config);
    const nBlocks = cacheBlocks(this.contextLength);
    this.cache = backend.createKvCache({
      nLayers: config.nLayers,
      latentDim: config.latentDim,
      ropeDim: config.ropeDim,
      nBlocks,
      cmpLen: config.nsa?.cmpLen ?? 0,
      cmpStride: config.nsa?.cmpStride ?? 0,
      type: options.exactCache ? WEIGHT_TYPES.f32 : WEIGHT_TYPES.f16,
    });
    this.kvBytes = backend.kvBytes(this.cache);
    this.kv = new PagedKv(nBlocks, (dst, src) => backend.copyBlock(this.cache, dst, src));
    this.rope = backend.createRope(config.invFreq);
    this.batch = backend.createBatch();
    const nRows = this.maxStepSequences + this.maxStepDrafts;
    this.act = allocActivations(backend, config, this.maxStepTokens, nRows);
    const { nHeads, nopeDim, vDim, softmaxScale } = config;
    this.heads = { nHeads, nopeDim, vDim, softmaxScale };
    this.nsa = config.nsa && { ...this.heads, ...config.nsa };
  }

  forward(parts: readonly StepPart[]): StepLogits {
    const { backend, weights, act, config } = this;
    const tokens = Int32Array.from(parts.flatMap((part) => part.tokens));
    this.setBatch(parts);
    backend.embed(act.x, weights.embedding, tokens);
    const rows = wantedRows(parts);
    for (const [index, layer] of weights.layers.entries()) {
      // Behind the last layer's cache rows only the rows whose logits are wanted are computed.
      const isLast = index === weights.layers.length - 1;
      this.store(layer, index, tokens.length);
      if (isLast && rows.length === 0) break;
      this.attention(layer, index, tokens.length);
      if (isLast) backend.gatherRows(act.last, act.x, rows, config.hidden);
      this.feedForward(layer, isLast ? act.last : act.x, isLast ? rows.length : tokens.length);
    }
    if (rows.length > 0) {
      backend.rmsnorm(
        act.lastNormed,
        act.last,
        weights.outputNorm,
        rows.length,
        config.hidden,
        config.eps,
      );
      backend.linear(act.logits, act.lastNormed, weights.head, rows.length);
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

  /** normed = rms(x), and its rows in the cache. */
  private store(layer: LayerWeights, index: number, n: number): void {
    const { backend, act, config, cache, batch } = this;
    backend.rmsnorm(act.normed, act.x, layer.attnNorm, n, config.hidden, config.eps);
    backend.linear(act.kvA, act.normed, layer.kvA, n);
    const phi = layer.sparse?.phi ?? null;
    backend.mlaStore(cache, index, batch, act.kvA, layer.kvANorm, phi, config.eps);
  }

  /** x += attention(normed), whose rows are stored. */
  private attention(layer: LayerWeights, index: number, n: number): void {
    const { backend, act } = this;
    this.queries(layer.q, n);
    const at = [this.cache, index, this.batch] as const;
    if (layer.sparse === undefined || this.nsa === undefined) {
      backend.mlaAttention(act.heads, act.q, ...at, layer.kvB, this.heads);
    } else {
      backend.linear(act.gates, act.normed, layer.sparse.gate, n, { bias: layer.sparse.gateBias });
      backend.nsaAttention(act.heads, act.q, act.gates, ...at, layer.kvB, this.nsa);
    }
    backend.linear(act.x, act.heads, layer.output, n, { accumulate: true });
  }

  /** q = the queries of all heads, of rms(x). */
  private queries(q: QueryWeights, n: number): void {
    const { backend, act, config } = this;
    if (q.kind === "full") {
      backend.linear(act.q, act.normed, q.w, n);
      return;
    }
    const width = config.queryLatentDim ?? 0;
    backend.linear(act.queryLatent, act.normed, q.a, n);
    backend.rmsnorm(act.queryLatent, act.queryLatent, q.norm, n, width, config.eps);
    backend.linear(act.q, act.queryLatent, q.b, n);
  }

  /** x (n, hidden) += feedforward(rms(x)): dense in the first layers, experts in the rest. */
  private feedForward(layer: LayerWeights, x: BufferHandle, n: number): void {
    const { backend, act, config } = this;
    backend.rmsnorm(act.normed, x, layer.ffnNorm, n, config.hidden, config.eps);
    if (layer.ffn.kind === "dense") {
      const { gate, up, down } = layer.ffn.weights;
      backend.ffnSwiglu(x, act.normed, gate, up, down, n);
      return;
    }
    const { router, routerBias, gate, up, down, shared } = layer.ffn.weights;
    const params = {
      ...config.moe,
      ...{ router, gate, up, down },
      ...(routerBias && { routerBias }),
      ...(shared && { shared }),
    };
    backend.moe(x, act.normed, params, n);
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

/** Indices of the new tokens whose logits are wanted: the last of a part that wants any, and those before its drafts. */
function wantedRows(parts: readonly StepPart[]): Int32Array {
  const rows: number[] = [];
  let end = 0;
  for (const part of parts) {
    end += part.tokens.length;
    for (let left = nLogitsOf(part); left > 0; left--) rows.push(end - left);
  }
  return Int32Array.from(rows);
}

function allocActivations(
  backend: Backend,
  c: MlaMoeConfig,
  nTokens: number,
  nRows: number,
): Activations {
  const floats = (rows: number, columns: number) => backend.alloc(rows * columns * 4);
  return {
    x: floats(nTokens, c.hidden),
    normed: floats(nTokens, c.hidden),
    q: floats(nTokens, c.nHeads * (c.nopeDim + c.ropeDim)),
    queryLatent: floats(nTokens, c.queryLatentDim ?? 1),
    kvA: floats(nTokens, c.latentDim + c.ropeDim),
    gates: floats(nTokens, c.nHeads * 3),
    heads: floats(nTokens, c.nHeads * c.vDim),
    last: floats(nRows, c.hidden),
    lastNormed: floats(nRows, c.hidden),
    logits: floats(nRows, c.vocab),
  };
}
