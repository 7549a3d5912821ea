/** What a benchmark says: measured rows, beside the limits that the same machine reached. */
import type { OpProfile } from "../backend/addon.ts";

export interface BenchMachine {
  cpu: string;
  cores: number;
  /** One line of the backend: device, instruction set, threads. */
  device: string;
  system: string;
  node: string;
  /** Programs that wanted a core when the benchmark began: means over 1, 5 and 15 minutes. */
  load: readonly number[];
}

/** What the context's threads reach with nothing else to do. */
export interface BenchLimits {
  /** Read bandwidth over as many bytes as the model file has; `cacheBytes` says how many. */
  cacheGbPerS: number;
  cacheBytes: number;
  /** Read bandwidth over `memoryBytes`, too many for a cache. */
  memoryGbPerS: number;
  memoryBytes: number;
  /** f32 multiply-adds, counted as two. */
  gflopPerS: number;
}

export interface BenchRow {
  name: string;
  /** Times that were measured. */
  n: number;
  p50Ms: number;
  p95Ms: number;
  /** Over the mean time. */
  tokensPerS?: number;
  gbPerS?: number;
  gflopPerS?: number;
}

/** Where one step's time goes. */
export interface StepProfile {
  /** Which step: "one token after 1000". */
  of: string;
  ops: StepOp[];
  /** Wall time of a step minus the ops: TypeScript and calls. */
  outsideUs: number;
  stepUs: number;
}

export interface StepOp {
  op: string;
  callsPerStep: number;
  usPerStep: number;
  gbPerS: number;
  gflopPerS: number;
}

export interface BenchReport {
  bench: "decode" | "prefill" | "fim" | "drafts";
  version: string;
  machine: BenchMachine;
  model: { id: string; path: string; contextLength: number };
  limits: BenchLimits;
  rows: BenchRow[];
  /** Further figures by name, such as fresh tokens per request. */
  facts: Record<string, number | string>;
  profile?: StepProfile;
  memory: { benchRssBytes: number; daemonRssBytes?: number };
}

/** A profile of `nSteps` steps that took `wallMs` together, the slowest op first. */
export function stepProfile(
  of: string,
  ops: readonly OpProfile[],
  nSteps: number,
  wallMs: number,
): StepProfile {
  const stepUs = (wallMs * 1000) / nSteps;
  const rows = ops
    .map(({ op, calls, ns, bytes, flops }) => ({
      op,
      callsPerStep: calls / nSteps,
      usPerStep: ns / 1000 / nSteps,
      gbPerS: ns > 0 ? bytes / ns : 0,
      gflopPerS: ns > 0 ? flops / ns : 0,
    }))
    .sort((a, b) => b.usPerStep - a.usPerStep);
  const inOps = rows.reduce((sum, row) => sum + row.usPerStep, 0);
  return { of, ops: rows, outsideUs: stepUs - inOps, stepUs };
}
