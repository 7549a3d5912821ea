/** One loaded model with its tokenizer, cache and scheduler. Synchronous: whoever owns it calls `step` until nothing is left. */
import { basename } from "node:path";
import { LRUCache } from "lru-cache";
import type { Backend } from "./backend/backend.ts";
import type { KvCacheFormat } from "./backend/params.ts";
import { readGguf } from "./loader/gguf.ts";
import { type DeviceWish, loadModel, placeModel } from "./model/loadModel.ts";
import type { Model } from "./model/model.ts";
import { type FimTokens, findFimTokens } from "./prompt/fimTokens.ts";
import { buildInfillPrompt, type InfillParts } from "./prompt/infillPrompt.ts";
import { ParagraphCache } from "./prompt/paragraphCache.ts";
import type { ModelSummary } from "./protocol/api.ts";
import type { DraftCounts, GenerationEvent, GenerationRequest } from "./scheduler/request.ts";
import { Scheduler } from "./scheduler/scheduler.ts";
import { Tokenizer } from "./tokenizer/tokenizer.ts";

export interface EngineOptions {
  modelPath: string;
  /** The CPU when missing. */
  device?: DeviceWish;
  /** 0: all physical cores. */
  threads: number;
  /** Context to offer; the model's own when missing or larger. */
  contextLength?: number;
  /** How fused kernels keep cached rows; bf16 when missing. */
  kvCache?: KvCacheFormat;
  /** Whether tokens may be guessed and verified several in a step (`SchedulerOptions.drafts`). */
  drafts?: boolean;
}

/** A generation before its prompt is tokens. */
export interface GenerationInput
  extends Omit<GenerationRequest, "id" | "prompt" | "forced" | "forkOf" | "pin"> {
  prompt: { kind: "infill"; parts: InfillParts } | { kind: "text"; text: string };
  /** Requests of one family have the same prompt, which only the first computes. */
  family?: string;
  /** Name under which the rows of the other files stay in the cache. */
  resident?: string;
}

/** What the engine is at. */
export interface EngineActivity {
  /** Requests that hold cache rows, and those that do not yet. */
  running: number;
  waiting: number;
  /** Prompt tokens computed in idle time, of how many. */
  prefill?: { done: number; total: number };
}

export interface EngineStats {
  sequences: { running: number; waiting: number };
  kv: {
    blocksTotal: number;
    blocksUsed: number;
    blocksCached: number;
    tokensCached: number;
    tokensPinned: number;
    bytes: number;
  };
  /** Tokens that were guessed since the start, and how many of them were right. */
  drafts: DraftCounts;
  /** Resident memory of the process that it runs in, when that is one of its own. */
  engineRssBytes?: number;
}

/** What an Engine is built from; tests bring a model of their own. */
export interface EngineParts {
  model: Model;
  tokenizer: Tokenizer;
  fim: FimTokens;
  summary: ModelSummary;
  /** As in `EngineOptions`. */
  drafts?: boolean;
}

/** A loaded model with its device, and lines on how it runs: why on this device, in how much memory. */
export interface LoadedEngine extends EngineParts {
  backend: Backend;
  notes: string[];
}

/** Loads the model file. Throws `bad_model`, `out_of_memory`, or a backend's error: `device` where there is no GPU. */
export function loadEngineParts(options: EngineOptions): LoadedEngine {
  const gguf = readGguf(options.modelPath);
  const tokenizer = new Tokenizer(gguf);
  const fim = findFimTokens(gguf, tokenizer);
  const { device = "cpu", threads, contextLength, kvCache = "bf16", drafts = true } = options;
  const placement = placeModel(gguf, { device, threads, contextLength, kvCache });
  const { model, notes } = loadModel(placement, gguf, contextLength, kvCache);
  const summary: ModelSummary = {
    id: basename(options.modelPath, ".gguf"),
    path: options.modelPath,
    contextLength: model.contextLength,
    device: placement.backend.describe(),
    fim: true,
  };
  return { model, tokenizer, fim, summary, drafts, backend: placement.backend, notes };
}

export class Engine {
  readonly summary: ModelSummary;
  private readonly parts: EngineParts;
  private readonly scheduler: Scheduler;
  private readonly encoder: ParagraphCache;
  private readonly firstOfFamily = new LRUCache<string, number>({ max: 64 });

  constructor(parts: EngineParts, onEvent: (id: number, event: GenerationEvent) => void) {
    this.parts = parts;
    this.summary = parts.summary;
    this.encoder = new ParagraphCache(parts.tokenizer);
    this.scheduler = new Scheduler({
      model: parts.model,
      tokenizer: parts.tokenizer,
      ends: parts.fim.ends,
      drafts: parts.drafts ?? true,
      onEvent,
    });
  }

  /** Accepts a request, or throws `prompt_too_long`, `bad_request` or `overloaded`; then no event follows. */
  submit(id: number, input: GenerationInput): void {
    const { family } = input;
    const forkOf = family === undefined ? undefined : this.firstOfFamily.get(family);
    const fork = forkOf === undefined ? {} : { forkOf };
    this.scheduler.submit({ ...input, id, ...fork, ...this.promptOf(input) });
    if (family !== undefined && forkOf === undefined) this.firstOfFamily.set(family, id);
  }

  cancel(id: number): void {
    this.scheduler.cancel(id);
  }

  /** Does one step of all requests; false when idle. Throws `device` when the device failed. */
  step(): boolean {
    return this.scheduler.step();
  }

  tokenize(text: string): number[] {
    return this.parts.tokenizer.encode(text);
  }

  detokenize(tokens: readonly number[]): string {
    return this.parts.tokenizer.decode(tokens);
  }

  get activity(): EngineActivity {
    const { counts, prefill } = this.scheduler;
    return prefill === undefined ? counts : { ...counts, prefill };
  }

  stats(): EngineStats {
    const { kv, kvBytes } = this.parts.model;
    const { counts: sequences, drafts } = this.scheduler;
    return { sequences, kv: { ...kv.stats(), bytes: kvBytes }, drafts: { ...drafts } };
  }

  private promptOf(input: GenerationInput): Pick<GenerationRequest, "prompt" | "forced" | "pin"> {
    const { prompt, maxTokens, resident } = input;
    const { fim, tokenizer, model } = this.parts;
    if (prompt.kind === "text") {
      const tokens = tokenizer.encode(prompt.text);
      return { prompt: fim.bos === undefined ? tokens : [fim.bos, ...tokens] };
    }
    // A large limit must not push the prompt out: beyond a quarter of the context the answer gets what is left.
    const reserved = Math.min(maxTokens, Math.floor(model.contextLength / 4));
    const budget = model.contextLength - reserved;
    const { tokens, nContext, forced } = buildInfillPrompt(prompt.parts, fim, this.encoder, budget);
    return {
      prompt: tokens,
      forced: new TextEncoder().encode(forced),
      ...(resident !== undefined && { pin: { key: resident, nTokens: nContext } }),
    };
  }
}
