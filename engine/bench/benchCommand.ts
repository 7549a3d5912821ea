import { EngineError } from "../base/errors.ts";
import { type BenchOptions, BenchSession } from "./benchSession.ts";
import { decodeBench } from "./decodeBench.ts";
import { fimBench } from "./fimBench.ts";
import { formatReport } from "./formatReport.ts";
import { prefillBench } from "./prefillBench.ts";
import type { BenchReport } from "./report.ts";

const BENCHES: Record<
  BenchReport["bench"],
  (session: BenchSession) => BenchReport | Promise<BenchReport>
> = { fim: fimBench, decode: decodeBench, prefill: prefillBench };

export const BENCH_NAMES = Object.keys(BENCHES) as BenchReport["bench"][];

/** Runs one benchmark: its report as text, or as one line of JSON. Throws an EngineError with a one-line reason. */
export async function runBench(
  bench: BenchReport["bench"],
  options: BenchOptions,
  asJson: boolean,
): Promise<string> {
  const session = new BenchSession(options);
  if (session.parts.summary.contextLength < 256) {
    throw new EngineError(
      "unsupported",
      `expected a context of at least 256 tokens to measure in, found ${session.parts.summary.contextLength}`,
    );
  }
  const report = await BENCHES[bench](session);
  return asJson ? `${JSON.stringify(report)}\n` : formatReport(report);
}
