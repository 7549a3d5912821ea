/** What every benchmark opens: the model in this process, source text, and what is known of the machine. */
import { statSync } from "node:fs";
import { availableParallelism, cpus, loadavg, release, type } from "node:os";
import type { KvCacheFormat } from "../backend/params.ts";
import { type LoadedEngine, loadEngineParts } from "../engine.ts";
import type { DeviceWish } from "../model/loadModel.ts";
import { sourceTokens, type TextSource } from "./draftTexts.ts";
import type { BenchLimits, BenchMachine, BenchReport } from "./report.ts";
import { SourceText } from "./sourceText.ts";

export interface BenchOptions {
  /** The bundle, which is started as a daemon to measure it. */
  script: string;
  version: string;
  modelPath: string;
  /** 0: all physical cores. */
  threads: number;
  device: DeviceWish;
  kvCache: KvCacheFormat;
  /** Few repetitions: for tests, not for figures. */
  quick: boolean;
  /** Files to take the prompts from; the bundled sample when empty. */
  sources: readonly string[];
}

const MEMORY_BYTES = 256 * 1024 * 1024;

export class BenchSession {
  readonly options: BenchOptions;
  readonly parts: LoadedEngine;
  readonly source: SourceText;
  private readonly load = loadavg();

  /** Loads the model. Throws `bad_model`, `environment`, or a backend's error. */
  constructor(options: BenchOptions) {
    this.options = options;
    this.source = new SourceText(options.sources);
    this.parts = loadEngineParts(options);
  }

  /** Repetitions: `few` when quick. */
  times(many: number, few: number): number {
    return this.options.quick ? few : many;
  }

  get texts(): TextSource {
    return { tokenizer: this.parts.tokenizer, source: this.source };
  }

  /** A prompt of exactly `n` tokens: the start of document, then version `index` of the source text. */
  promptTokens(n: number, index: number): number[] {
    const { bos } = this.parts.fim;
    const head = bos === undefined ? [] : [bos];
    return [...head, ...sourceTokens(this.texts, n - head.length, index)];
  }

  /** Report of `bench` without rows. Measures the machine's limits: call it last, since that takes memory. */
  report(bench: BenchReport["bench"]): BenchReport {
    const { id, path, contextLength, device } = this.parts.summary;
    const benchRssBytes = process.memoryUsage.rss();
    return {
      bench,
      version: this.options.version,
      machine: machineOf(device, this.load),
      model: { id, path, contextLength },
      limits: this.limits(),
      rows: [],
      facts: {},
      memory: { benchRssBytes },
    };
  }

  /** Frees the device, so that its threads do not disturb what is measured next. */
  close(): void {
    this.parts.backend.close();
  }

  private limits(): BenchLimits {
    const { backend, summary } = this.parts;
    const modelBytes = statSync(summary.path).size;
    const cache = backend.measureLimits(modelBytes);
    const memory = backend.measureLimits(MEMORY_BYTES);
    return {
      cacheGbPerS: cache.gbPerS,
      cacheBytes: modelBytes,
      memoryGbPerS: memory.gbPerS,
      memoryBytes: MEMORY_BYTES,
      gflopPerS: Math.max(cache.gflopPerS, memory.gflopPerS),
    };
  }
}

function machineOf(device: string, load: readonly number[]): BenchMachine {
  return {
    cpu: cpus()[0]?.model.trim() ?? "unknown CPU",
    cores: availableParallelism(),
    device,
    system: `${type()} ${release()}`,
    node: process.versions.node,
    load,
  };
}
