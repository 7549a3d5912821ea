import type { KvCacheFormat, RandomTypes } from "../backend/params.ts";
import { EngineError } from "../base/errors.ts";
import type { DeviceWish } from "../model/loadModel.ts";
import { type BenchOptions, BenchSession } from "./benchSession.ts";
import { decodeBench } from "./decodeBench.ts";
import { draftsBench } from "./draftsBench.ts";
import { fimBench } from "./fimBench.ts";
import { formatReport } from "./formatReport.ts";
import { withPeer } from "./peer.ts";
import { prefillBench } from "./prefillBench.ts";
import { formatRandomLite, LITE_SIZES, randomLiteBench } from "./randomLite.ts";
import type { BenchReport } from "./report.ts";

const BENCHES: Record<
  BenchReport["bench"],
  (session: BenchSession) => BenchReport | Promise<BenchReport>
> = { fim: fimBench, decode: decodeBench, prefill: prefillBench, drafts: draftsBench };

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

export interface RandomLiteCommand {
  version: string;
  types: RandomTypes;
  kvCache: KvCacheFormat;
  device: DeviceWish;
  /** A file of the same shape for llama-bench. */
  peer: string | undefined;
  /** Short lengths and few steps: to see that it works, not for figures. */
  quick: boolean;
}

const QUICK_SIZES = {
  depths: [0, 4096],
  decodeSteps: 8,
  prompts: [512],
  fim: { resident: 1024, fresh: 64, generated: 4 },
  runs: 1,
};

/** As `runBench`, with random weights of Coder-V2-Lite's shape on the GPU. */
export function runRandomLite(
  bench: BenchReport["bench"],
  { version, types, kvCache, device, peer, quick }: RandomLiteCommand,
  asJson: boolean,
): string {
  if (device === "cpu")
    throw new EngineError("unsupported", "expected --device cuda with --random-lite, found cpu");
  if (bench === "drafts")
    throw new EngineError(
      "unsupported",
      "expected a trained model to draft for, found random weights",
    );
  if (peer !== undefined && bench === "fim")
    throw new EngineError("unsupported", "expected --peer with decode or prefill, found fim");
  const sizes = quick ? QUICK_SIZES : LITE_SIZES;
  const alone = randomLiteBench(bench, { version, types, kvCache, sizes });
  const report = peer === undefined ? alone : withPeer(alone, sizes, peer);
  return asJson ? `${JSON.stringify(report)}\n` : formatRandomLite(report);
}
