/**
 * A model whose step is one native call (fusedModels.ts): DeepSeek-Coder-V2-Lite's kind on CUDA. Blocks and prefix
 * cache are those of every model: the step gets each sequence's block table.
 */
import type { BufferHandle, ModelHandle } from "../backend/addon.ts";
import type { Backend } from "../backend/backend.ts";
import {
  type FusedModelParams,
  type FusedModelWeights,
  KV_BLOCK,
  type KvCacheFormat,
  type RandomTypes,
} from "../backend/params.ts";
import { PagedKv } from "../kvcache/pagedKv.ts";
import type { GgufFile } from "../loader/gguf.ts";
import { fusedParams, loadFusedModel } from "./fusedWeights.ts";
import { cacheBlocks } from "./memoryPlan.ts";
import type { MlaMoeConfig } from "./mlaMoeConfig.ts";
import { type Model, nLogitsOf, type StepLogits, type StepPart } from "./model.ts";

/**
 * Most tokens of a step, most sequences, and most drafts: one token and its drafts are decoded together
 * (`EK_DECODED`). Workspace grows with the first: 117 KB a token at the Lite's size.
 */
export const FUSED_STEP = { tokens: 2048, sequences: 8, drafts: 7 } as const;

/**
 * Up to 64 tokens are read in a form that reads each weight once, and take less time; more are read in another one,
 * whose time hardly depends on their number at first.
 */
const STEP_SIZES = [64, 512, 1024];

export interface FusedSizes {
  contextLength: number;
  kvCache?: KvCacheFormat;
  /** Tokens that are read at once. */
  chunk?: number;
}

/** Narrow models decode the tokens of a step one after the other: a draft would save nothing. */
function mostDrafts({ sparse }: FusedModelParams): number {
  return sparse === undefined ? FUSED_STEP.drafts : 0;
}

/** Bytes of the logits of a step that wants the most. */
export function stepLogitsBytes(params: FusedModelParams): number {
  return (FUSED_STEP.sequences + mostDrafts(params)) * params.vocab * 4;
}

interface Parts {
  params: FusedModelParams;
  model: ModelHandle;
  /** Kept alive: the model reads them. */
  weights?: FusedModelWeights;
  contextLength: number;
}

export class FusedModel implements Model {
  readonly contextLength: number;
  readonly vocab: number;
  readonly kv: PagedKv;
  readonly kvBytes: number;
  readonly maxStepTokens: number;
  readonly maxStepSequences = FUSED_STEP.sequences;
  readonly stepSizes: readonly number[];
  readonly maxStepDrafts: number;
  /** The native model, for measurements. */
  readonly handle: ModelHandle;
  private readonly backend: Backend;
  private readonly parts: Parts;
  private readonly logits: BufferHandle;

  private constructor(backend: Backend, parts: Parts) {
    const { vocab, nBlocks, chunk } = parts.params;
    this.backend = backend;
    this.parts = parts;
    this.handle = parts.model;
    this.contextLength = parts.contextLength;
    this.vocab = vocab;
    this.maxStepTokens = chunk;
    this.stepSizes = [...STEP_SIZES.filter((size) => size < chunk), chunk];
    this.maxStepDrafts = mostDrafts(parts.params);
    this.kvBytes = backend.fusedModels.plan(parts.params).cacheBytes;
    this.kv = new PagedKv(nBlocks, (dst, src) =>
      backend.fusedModels.copyBlock(parts.model, dst, src),
    );
    this.logits = backend.alloc(stepLogitsBytes(parts.params));
  }

  /**
   * Loads the file, whose shape the fused kernels take (`fusedObstacle`). Throws `bad_argument` when its types are mixed
   * as no kernel takes them, `bad_model`, `out_of_memory`, or `device`.
   */
  static load(
    backend: Backend,
    gguf: GgufFile,
    config: MlaMoeConfig,
    sizes: FusedSizes,
  ): FusedModel {
    const params = paramsOf(config, sizes);
    const loaded = loadFusedModel(backend, gguf, config, params);
    return new FusedModel(backend, { params, contextLength: sizes.contextLength, ...loaded });
  }

  /** A model of this shape with random weights made on the device, for measurements. */
  static random(
    backend: Backend,
    config: MlaMoeConfig,
    types: RandomTypes,
    sizes: FusedSizes,
  ): FusedModel {
    const params = paramsOf(config, sizes);
    const model = backend.fusedModels.createRandom(params, types, 1);
    return new FusedModel(backend, { params, model, contextLength: sizes.contextLength });
  }

  /** Frees the cache, the workspace, and weights that were made with the model. Nothing may be called afterwards. */
  close(): void {
    this.backend.dispose(this.handle);
    this.backend.dispose(this.logits);
  }

  forward(parts: readonly StepPart[]): StepLogits {
    const nBlocks = (part: StepPart) =>
      Math.ceil((part.sequence.tokens.length + part.tokens.length) / KV_BLOCK);
    const step = {
      start: Int32Array.from(parts, (part) => part.sequence.tokens.length),
      nNew: Int32Array.from(parts, (part) => part.tokens.length),
      nSeqBlocks: Int32Array.from(parts, nBlocks),
      blocks: Int32Array.from(
        parts.flatMap((part) => part.sequence.blocks.slice(0, nBlocks(part))),
      ),
      tokens: Int32Array.from(parts.flatMap((part) => part.tokens)),
      wants: Uint8Array.from(parts, nLogitsOf),
    };
    const { backend, vocab, logits } = this;
    const greedy = backend.fusedModels.step(this.parts.model, step, logits);
    return {
      greedy: () => greedy,
      row: (index) => {
        const row = new Float32Array(vocab);
        backend.download(row, logits, index * vocab * 4);
        return row;
      },
    };
  }
}

function paramsOf(
  config: MlaMoeConfig,
  { contextLength, kvCache = "bf16", chunk = FUSED_STEP.tokens }: FusedSizes,
): FusedModelParams {
  return fusedParams(config, cacheBlocks(contextLength), chunk, kvCache);
}
