/**
 * Speed of the exact shape of DeepSeek-Coder-V2-Lite with random weights, which are made on the GPU: no file is needed.
 * Times include everything up to the scheduler: block tables, launches, the choice of the token.
 */
import { Backend } from "../backend/backend.ts";
import type { KvCacheFormat, RandomTypes } from "../backend/params.ts";
import { EngineError } from "../base/errors.ts";
import type { KvSequence, PagedKv } from "../kvcache/pagedKv.ts";
import { FusedModel, type FusedSizes } from "../model/fusedModel.ts";
import { gib } from "../model/memoryPlan.ts";
import type { MlaMoeConfig } from "../model/mlaMoeConfig.ts";
import { modelStep, prefill } from "./modelLoop.ts";
import { summarize } from "./percentile.ts";
import type { BenchReport } from "./report.ts";
import { formatTable } from "./table.ts";

const ROPE = 64;
/** Frequencies are those of no scaling: speed does not depend on angles. */
export const LITE_CONFIG: MlaMoeConfig = {
  ...{ vocab: 102_400, hidden: 2048, nLayers: 27, nDenseLayers: 1, denseFf: 10_944 },
  ...{ nHeads: 16, nopeDim: 128, ropeDim: ROPE, vDim: 128, latentDim: 512 },
  queryLatentDim: undefined,
  moe: {
    ...{ nExperts: 64, topK: 6, ff: 1408, sharedFf: 2816 },
    ...{ scoreFunc: 1, nGroups: 1, topGroups: 1, normalize: false, scale: 1 },
  },
  eps: 1e-6,
  contextLength: 163_840,
  invFreq: Float32Array.from({ length: ROPE / 2 }, (_, i) => 10_000 ** ((-2 * i) / ROPE)),
  softmaxScale: 0.114_721,
  nsa: undefined,
};

export interface RandomLiteSizes {
  /** Cached tokens that decode is measured behind. */
  depths: readonly number[];
  decodeSteps: number;
  /** Lengths of prompts. */
  prompts: readonly number[];
  /** Of a completion: cached tokens, new ones of its prompt, generated ones. */
  fim: { resident: number; fresh: number; generated: number };
  runs: number;
}

/** What the issue of the GPU engine asks for. */
export const LITE_SIZES: RandomLiteSizes = {
  depths: [0, 4096, 16_000, 32_768, 131_072],
  decodeSteps: 128,
  prompts: [512, 8192, 32_768, 131_072],
  fim: { resident: 8192, fresh: 64, generated: 24 },
  runs: 3,
};

/** What the card itself reaches: bytes read plus written by a copy, and bf16 products by its matrix units. */
export interface CardLimits {
  copyGbPerS: number;
  matrixTflopPerS: number;
}

export interface RandomLiteRow {
  name: string;
  /** Cached tokens of a decode row, or tokens of the prompt. */
  length: number;
  /** Times that were measured. */
  n: number;
  p50Ms: number;
  p95Ms: number;
  /** Over the mean time. */
  tokensPerS: number;
  gbPerS: number;
  percentOfCopy: number;
  tflopPerS: number;
  percentOfMatrixRate: number;
  /** Tokens per second of the peer in the same run, and how many times as many we do. */
  peer?: { tokensPerS: number; ratio: number };
}

/** Drafts have a bench of their own (`randomDrafts.ts`). */
export type RandomLiteBench = Exclude<BenchReport["bench"], "drafts">;

export interface RandomLiteReport {
  bench: RandomLiteBench;
  version: string;
  types: RandomTypes;
  kvCache: KvCacheFormat;
  device: string;
  limits: CardLimits;
  rows: RandomLiteRow[];
}

export interface RandomLiteOptions {
  version: string;
  types: RandomTypes;
  /** How cached rows lie; bf16 when missing. */
  kvCache?: KvCacheFormat;
  config?: MlaMoeConfig;
  sizes?: RandomLiteSizes;
  /** Measures the card; takes memory, so it is called before the model is made. */
  limitsOf?: (backend: Backend) => CardLimits;
}

export function measuredLimits(backend: Backend): CardLimits {
  const { gbPerS } = backend.measureLimits(2 ** 32);
  return { copyGbPerS: gbPerS, matrixTflopPerS: backend.measureMatrixRate() };
}

/** Measures `bench` on the GPU. Throws `device` where there is none, `out_of_memory` where the model does not fit. */
export function randomLiteBench(
  bench: RandomLiteBench,
  options: RandomLiteOptions,
): RandomLiteReport {
  const { version, types, kvCache = "bf16", config = LITE_CONFIG, sizes = LITE_SIZES } = options;
  const backend = Backend.open({ device: "cuda" });
  const limits = (options.limitsOf ?? measuredLimits)(backend);
  const longest = { decode: sizes.depths, prefill: sizes.prompts, fim: [sizes.fim.resident] };
  const contextLength = Math.max(...longest[bench]) + sizes.decodeSteps + 256;
  const model = randomModel(backend, config, types, { contextLength, kvCache });
  const run = new RandomLiteRun(backend, model, sizes, limits);
  const timed = { decode: run.decode, prefill: run.prefill, fim: run.fim }[bench].call(run);
  // Profiling stays on once it was asked for, so everything is timed before anything is profiled.
  const rows = timed.map((work) => run.row(work));
  const device = backend.describe();
  model.close();
  backend.close();
  return { bench, version, types, kvCache, device, limits, rows };
}

/** Throws `out_of_memory` with what is free. */
export function randomModel(
  backend: Backend,
  config: MlaMoeConfig,
  types: RandomTypes,
  sizes: FusedSizes,
): FusedModel {
  const freeBytes = backend.deviceMemory()?.freeBytes ?? 0;
  try {
    return FusedModel.random(backend, config, types, sizes);
  } catch (cause) {
    if (!EngineError.is(cause, "out_of_memory")) throw cause;
    throw new EngineError(
      "out_of_memory",
      `expected room on the GPU for ${types} weights and a cache of ${sizes.contextLength} tokens, found ${gib(freeBytes)} free`,
      { cause },
    );
  }
}

/** A sequence whose first `n` tokens are in the cache, with room for more: their rows are whatever the blocks hold. */
export function residentSequence(kv: PagedKv, n: number, nMore: number): KvSequence {
  const sequence = kv.acquire([]);
  if (!kv.reserve(sequence, n + nMore))
    throw new EngineError("internal", `expected room for ${n} tokens in the cache, found none`);
  kv.commit(sequence, tokensOf(n, 3));
  return sequence;
}

/** Times of equal pieces of work; `profiled` does one or more of them again, and says so in as many times. */
interface Timed {
  name: string;
  length: number;
  nTokens: number;
  times: readonly number[];
  profiled: () => readonly number[];
}

class RandomLiteRun {
  private readonly backend: Backend;
  private readonly model: FusedModel;
  private readonly sizes: RandomLiteSizes;
  private readonly limits: CardLimits;

  constructor(backend: Backend, model: FusedModel, sizes: RandomLiteSizes, limits: CardLimits) {
    this.backend = backend;
    this.model = model;
    this.sizes = sizes;
    this.limits = limits;
    backend.fusedModels.fillCache(model.handle, model.kv.pool.nBlocks * 64, 2);
  }

  decode(): Timed[] {
    const { depths, decodeSteps } = this.sizes;
    return depths.map((depth) => {
      const steps = (n: number) => {
        const sequence = this.resident(depth);
        const times = this.steps(sequence, 1, n);
        this.model.kv.release(sequence);
        return times;
      };
      const few = () => steps(Math.min(8, decodeSteps));
      few();
      const times = steps(decodeSteps);
      return { name: `one token after ${depth}`, length: depth, nTokens: 1, times, profiled: few };
    });
  }

  prefill(): Timed[] {
    const { prompts, runs } = this.sizes;
    return prompts.map((length) => {
      const once = () => [this.timed(() => this.prompt(length))];
      once();
      const times = Array.from({ length: runs }, once).flat();
      return {
        name: `a prompt of ${length} tokens`,
        length,
        nTokens: length,
        times,
        profiled: once,
      };
    });
  }

  fim(): Timed[] {
    const { fim, runs } = this.sizes;
    const once = () => {
      const sequence = this.resident(fim.resident);
      const ms = this.timed(() => {
        let token = this.step(sequence, tokensOf(fim.fresh, 7));
        for (let i = 1; i < fim.generated; i++) token = this.step(sequence, [token]);
      });
      this.model.kv.release(sequence);
      return [ms];
    };
    once();
    const times = Array.from({ length: runs }, once).flat();
    const name = `${fim.generated} tokens after ${fim.fresh} new ones behind ${fim.resident}`;
    return [{ name, length: fim.resident, nTokens: fim.generated, times, profiled: once }];
  }

  private resident(n: number): KvSequence {
    const { kv } = this.model;
    return residentSequence(kv, n, this.sizes.decodeSteps + this.sizes.fim.fresh + 64);
  }

  private prompt(length: number): void {
    const sequence = this.model.kv.acquire([]);
    prefill(this.model, sequence, tokensOf(length, 5));
    this.model.kv.release(sequence);
  }

  /** Milliseconds of each of `n` greedy steps. */
  private steps(sequence: KvSequence, first: number, n: number): number[] {
    let token = first;
    return Array.from({ length: n }, () =>
      this.timed(() => {
        token = this.step(sequence, [token]);
      }),
    );
  }

  private step(sequence: KvSequence, tokens: readonly number[]): number {
    return modelStep(this.model, sequence, tokens, true);
  }

  private timed(work: () => void): number {
    const startedAt = performance.now();
    work();
    return performance.now() - startedAt;
  }

  /** Adds what one of the pieces of work that were timed reads and computes. */
  row({ name, length, nTokens, times, profiled }: Timed): RandomLiteRow {
    const { n, p50Ms, p95Ms, meanMs } = summarize(times);
    this.backend.profileReset();
    const pieces = profiled().length;
    const ops = this.backend.profileRead();
    const perS = (what: "bytes" | "flops") =>
      ops
        .filter(({ op }) => op === "decode" || op === "prefill")
        .reduce((sum, op) => sum + op[what], 0) /
      pieces /
      (meanMs / 1000);
    const gbPerS = perS("bytes") / 1e9;
    const tflopPerS = perS("flops") / 1e12;
    return {
      ...{ name, length, n, p50Ms, p95Ms },
      tokensPerS: (1000 * nTokens) / meanMs,
      gbPerS,
      percentOfCopy: (100 * gbPerS) / this.limits.copyGbPerS,
      tflopPerS,
      percentOfMatrixRate: (100 * tflopPerS) / this.limits.matrixTflopPerS,
    };
  }
}

/** The report as a table, ending in a line break. */
export function formatRandomLite(report: RandomLiteReport): string {
  const { bench, version, types, kvCache, device, limits, rows } = report;
  const share = (value: number, percent: number, digits: number) =>
    `${value.toFixed(digits)} (${percent.toFixed(1)} %)`;
  const table = formatTable(
    ["", "n", "p50 ms", "p95 ms", "tok/s", "GB/s", "TFLOP/s", "peer tok/s", "ratio"],
    rows.map((row) => [
      ...[row.name, String(row.n), row.p50Ms.toFixed(3), row.p95Ms.toFixed(3)],
      row.tokensPerS.toFixed(0),
      share(row.gbPerS, row.percentOfCopy, 0),
      share(row.tflopPerS, row.percentOfMatrixRate, 1),
      row.peer?.tokensPerS.toFixed(0) ?? "",
      row.peer?.ratio.toFixed(2) ?? "",
    ]),
  );
  const head = [
    `tidepool ${version} bench ${bench}: DeepSeek-Coder-V2-Lite's shape, random ${types} weights, ${kvCache} cache`,
    `device  ${device}`,
    `limits  copies ${limits.copyGbPerS.toFixed(0)} GB/s (read and written), ${limits.matrixTflopPerS.toFixed(0)} TFLOP/s of bf16 products`,
  ];
  return `${[...head, "", ...table].join("\n")}\n`;
}

/** Tokens that differ from one prompt to another, all below 256: any vocabulary has them. */
function tokensOf(n: number, step: number): number[] {
  return Array.from({ length: n }, (_, i) => (i * step) % 251);
}
