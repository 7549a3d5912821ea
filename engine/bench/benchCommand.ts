import type { KvCacheFormat, RandomTypes } from "../backend/params.ts";
import { EngineError } from "../base/errors.ts";
import { readGguf } from "../loader/gguf.ts";
import type { DeviceWish } from "../model/loadModel.ts";
import { Tokenizer } from "../tokenizer/tokenizer.ts";
import { type BenchOptions, BenchSession } from "./benchSession.ts";
import { decodeBench } from "./decodeBench.ts";
import { draftsBench } from "./draftsBench.ts";
import { fimBench } from "./fimBench.ts";
import { formatReport } from "./formatReport.ts";
import { withPeer } from "./peer.ts";
import { prefillBench } from "./prefillBench.ts";
import { DRAFTS_SIZES, formatRandomDrafts, randomDraftsBench } from "./randomDrafts.ts";
import { formatRandomLite, LITE_SIZES, randomLiteBench } from "./randomLite.ts";
import type { BenchReport } from "./report.ts";
import { SourceText } from "./sourceText.ts";

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
  /** Whose tokenizer counts the texts of `drafts`, and the files that these are taken from. */
  modelPath: string;
  sources: readonly string[];
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

const QUICK_DRAFTS = {
  ...{ depths: [1000], drafts: [0, 1, 3, 7], steps: 4 },
  ...{ texts: 1, prompt: 1000, edit: 64, completion: 32 },
};

/** As `runBench`, with random weights of Coder-V2-Lite's shape on the GPU. */
export function runRandomLite(
  bench: BenchReport["bench"],
  command: RandomLiteCommand,
  asJson: boolean,
): string {
  const { version, types, kvCache, device, peer, quick } = command;
  if (device === "cpu")
    throw new EngineError("unsupported", "expected --device cuda with --random-lite, found cpu");
  if (peer !== undefined && bench !== "decode" && bench !== "prefill")
    throw new EngineError("unsupported", `expected --peer with decode or prefill, found ${bench}`);
  if (bench === "drafts") return runRandomDrafts(command, asJson);
  const sizes = quick ? QUICK_SIZES : LITE_SIZES;
  const alone = randomLiteBench(bench, { version, types, kvCache, sizes });
  const report = peer === undefined ? alone : withPeer(alone, sizes, peer);
  return asJson ? `${JSON.stringify(report)}\n` : formatRandomLite(report);
}

function runRandomDrafts(command: RandomLiteCommand, asJson: boolean): string {
  const { version, types, kvCache, modelPath, sources, quick } = command;
  const texts = {
    tokenizer: new Tokenizer(readGguf(modelPath)),
    source: new SourceText(sources),
  };
  const sizes = quick ? QUICK_DRAFTS : DRAFTS_SIZES;
  const report = randomDraftsBench({ version, types, kvCache, sizes, texts });
  return asJson ? `${JSON.stringify(report)}\n` : formatRandomDrafts(report);
}
