// Measures what the repository context holds of what is written next, and what simple baselines hold of it.
import { LiveIndex } from "../context/buildIndex.ts";
import { retrieveLive } from "../context/liveRetrieval.ts";
import { bytesOfTokens } from "../context/snippet.ts";
import { Baselines, baselineNames } from "./baselines.ts";
import { type BenchLanguage, benchLanguages } from "./judge.ts";
import { maskedPositions } from "./positions.ts";
import { type Recall, recallOf } from "./recall.ts";
import { readBenchRepository } from "./repository.ts";

export const budgets = [1024, 2048, 4096, 8192] as const;

export type Source = "tidepool" | (typeof baselineNames)[number];

/** What every source holds at one position, by budget. */
export interface Measured {
  repository: string;
  language: BenchLanguage;
  /** Every name stands in an import statement; some do; none does. */
  imported: "all" | "some" | "none";
  recall: Partial<Record<Source, Recall[]>>;
  /** Of our retrieval, by budget. */
  ms: number[];
}

export interface IndexCost {
  root: string;
  files: number;
  lines: number;
  ms: number;
  /** Heap and buffers that the process holds more than before, in bytes. */
  memory: number;
  /** Median of taking up an edited file. */
  editMs: number;
}

export interface ContextBenchOptions {
  roots: readonly string[];
  /** Positions in each repository. */
  positions: number;
  seed: number;
  /** Measures the baselines too, which takes most of the time. */
  baselines: boolean;
  onRepository?: (root: string, done: number) => void;
}

export interface ContextBenchResult {
  measured: Measured[];
  indexes: IndexCost[];
}

const MOST_OF_FILE = 3;
const EDITED_FILES = 20;

/** Runs the benchmark over all repositories, one after the other. */
export async function contextBench(options: ContextBenchOptions): Promise<ContextBenchResult> {
  const result: ContextBenchResult = { measured: [], indexes: [] };
  for (const [i, root] of options.roots.entries()) {
    options.onRepository?.(root, i);
    await benchRepository(root, options, result);
  }
  return result;
}

async function benchRepository(
  root: string,
  { positions: count, seed, baselines: withBaselines }: ContextBenchOptions,
  result: ContextBenchResult,
): Promise<void> {
  const live = new LiveIndex({ root });
  const before = heldMemory();
  const started = performance.now();
  await live.refresh();
  const ms = performance.now() - started;
  const { index } = live;
  const memory = heldMemory() - before;
  const repository = readBenchRepository(root, [...index.files.keys()]);
  const positions = maskedPositions(repository, { count, mostOfFile: MOST_OF_FILE, seed });
  const baselines = withBaselines ? new Baselines(repository, index) : undefined;
  for (const position of positions) {
    const recall: Measured["recall"] = { tidepool: [] };
    const times: number[] = [];
    for (const budget of budgets) {
      const found = await retrieveLive(live, position, budget);
      times.push(found.ms);
      recall.tidepool?.push(recallOf(repository, position, found.context));
    }
    for (const name of baselines ? baselineNames : [])
      recall[name] = budgets.map((budget) =>
        recallOf(
          repository,
          position,
          baselines?.context(name, position, bytesOfTokens(budget)) ?? "",
        ),
      );
    const { imported, names, language } = position;
    const share = imported.length === names.length ? "all" : imported.length > 0 ? "some" : "none";
    result.measured.push({ repository: root, language, imported: share, recall, ms: times });
  }
  const editMs = await editTime(live, repository.files);
  let lines = 0;
  for (const file of index.files.values()) lines += file.starts.length - 1;
  result.indexes.push({ root, files: index.files.size, lines, ms, memory, editMs });
}

async function editTime(
  live: LiveIndex,
  files: readonly { path: string; text: string }[],
): Promise<number> {
  const times: number[] = [];
  const step = Math.max(1, Math.floor(files.length / EDITED_FILES));
  for (let i = 0; i < files.length; i += step) {
    const file = files[i];
    if (!file) continue;
    const started = performance.now();
    await live.edit(file.path, file.text);
    times.push(performance.now() - started);
  }
  return times.sort((a, b) => a - b)[times.length >> 1] ?? 0;
}

function heldMemory(): number {
  globalThis.gc?.();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

/** Languages of `measured` in the order of the report. */
export function languagesOf(measured: readonly Measured[]): BenchLanguage[] {
  return benchLanguages.filter((name) => measured.some(({ language }) => language === name));
}
