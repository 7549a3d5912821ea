import { EngineError } from "../base/errors.ts";

export interface TimeSummary {
  n: number;
  meanMs: number;
  p50Ms: number;
  p95Ms: number;
}

/** The value below which `share` (0 to 1) of `values` lie, between two neighbours in proportion. Throws on none and on NaN. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const at = share * (sorted.length - 1);
  const low = sorted[Math.floor(at)];
  const high = sorted[Math.ceil(at)];
  if (low === undefined || high === undefined || !sorted.every(Number.isFinite)) {
    throw new EngineError(
      "internal",
      `expected finite times and a share from 0 to 1, found ${values.length} times and ${share}`,
    );
  }
  return low + (high - low) * (at - Math.floor(at));
}

/** Mean, median and 95th percentile of times in milliseconds. */
export function summarize(timesMs: readonly number[]): TimeSummary {
  return {
    n: timesMs.length,
    meanMs: timesMs.reduce((sum, ms) => sum + ms, 0) / timesMs.length,
    p50Ms: percentile(timesMs, 0.5),
    p95Ms: percentile(timesMs, 0.95),
  };
}
