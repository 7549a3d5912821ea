/**
 * Attention alone of Coder-V2-Lite's shape on the GPU, one layer: our dense kernels beside native sparse attention.
 * Rates of dense attention count what it needs, those of sparse attention what its rule asks for.
 */
import type { AttentionTimes } from "../backend/addon.ts";
import { Backend } from "../backend/backend.ts";
import { EngineError } from "../base/errors.ts";
import type { DeviceWish } from "../model/loadModel.ts";
import { type CardLimits, measuredLimits } from "./randomLite.ts";
import { formatTable } from "./table.ts";

export interface AttentionSizes {
  /** Of a prompt, or of each sequence. */
  tokens: readonly number[];
  /** Sequences that decode a token each; 0: one that reads a prompt. */
  batches: readonly number[];
  rounds: number;
}

/** What the issue of the GPU engine asks for. */
const FULL_SIZES: AttentionSizes = {
  ...{ tokens: [8192, 16_384, 32_768, 65_536], batches: [0, 1, 16] },
  rounds: 5,
};

const QUICK_SIZES: AttentionSizes = { tokens: [1024], batches: [0, 1, 2], rounds: 1 };

export interface AttentionKind {
  us: number;
  /** 0 of a prompt, which products bound. */
  gbPerS: number;
  percentOfCopy: number;
  tflopPerS: number;
  percentOfMatrixRate: number;
}

export interface AttentionRow {
  phase: "prefill" | "decode";
  tokens: number;
  batch: number;
  /** Who selects blocks: every token, or in a prompt the first of 128 for all of them. */
  choice: "token" | "tile";
  dense: AttentionKind;
  sparse: AttentionKind;
  /** How many times as fast sparse attention is. */
  ratio: number;
}

export interface AttentionReport {
  bench: "attention";
  version: string;
  device: string;
  limits: CardLimits;
  rows: AttentionRow[];
}

export interface AttentionOptions {
  version: string;
  sizes?: AttentionSizes;
  limitsOf?: (backend: Backend) => CardLimits;
}

/** Measures on the GPU. Throws `device` where there is none, `out_of_memory` where the rows do not fit. */
export function attentionBench(options: AttentionOptions): AttentionReport {
  const { version, sizes = FULL_SIZES, limitsOf = measuredLimits } = options;
  const backend = Backend.open({ device: "cuda" });
  try {
    const limits = limitsOf(backend);
    const rows = sizes.batches.flatMap((batch) =>
      sizes.tokens.flatMap((tokens) =>
        rowsOf(tokens, batch, backend.measureAttention(tokens, batch, sizes.rounds), limits),
      ),
    );
    return { bench: "attention", version, device: backend.describe(), limits, rows };
  } finally {
    backend.close();
  }
}

function rowsOf(
  tokens: number,
  batch: number,
  times: AttentionTimes,
  limits: CardLimits,
): AttentionRow[] {
  const { denseUs, sparseUs, sharedUs } = times;
  const dense = kindOf(denseUs, times.denseBytes, times.denseFlops, limits);
  const sparse = kindOf(sparseUs, times.sparseBytes, times.sparseFlops, limits);
  const ratio = denseUs / sparseUs;
  if (batch > 0) return [{ phase: "decode", tokens, batch, choice: "token", dense, sparse, ratio }];
  const shared = kindOf(sharedUs, 0, times.sharedFlops, limits);
  const prompt = { phase: "prefill", tokens, batch, dense } as const;
  return [
    { ...prompt, choice: "token", sparse, ratio },
    { ...prompt, choice: "tile", sparse: shared, ratio: denseUs / sharedUs },
  ];
}

function kindOf(us: number, bytes: number, flops: number, limits: CardLimits): AttentionKind {
  const gbPerS = bytes / us / 1e3;
  const tflopPerS = flops / us / 1e6;
  return {
    ...{ us, gbPerS, percentOfCopy: (100 * gbPerS) / limits.copyGbPerS },
    ...{ tflopPerS, percentOfMatrixRate: (100 * tflopPerS) / limits.matrixTflopPerS },
  };
}

/** Runs the benchmark: its report as text, or as one line of JSON. */
export function runAttention(
  { version, device, quick }: { version: string; device: DeviceWish; quick: boolean },
  asJson: boolean,
): string {
  if (device === "cpu")
    throw new EngineError(
      "unsupported",
      "expected --device cuda with the attention bench, found cpu",
    );
  const report = attentionBench({ version, ...(quick ? { sizes: QUICK_SIZES } : {}) });
  return asJson ? `${JSON.stringify(report)}\n` : formatAttention(report);
}

export function formatAttention({ version, device, limits, rows }: AttentionReport): string {
  const rates = `${limits.copyGbPerS.toFixed(0)} GB/s copied, ${limits.matrixTflopPerS.toFixed(0)} TFLOP/s of products`;
  const head = ["one layer", "dense us", "rate", "sparse us", "rate", "times as fast"];
  const cells = rows.map((row) => [
    whatIsRead(row),
    row.dense.us.toFixed(1),
    rateOf(row, row.dense),
    row.sparse.us.toFixed(1),
    rateOf(row, row.sparse),
    row.ratio.toFixed(2),
  ]);
  const lines = [
    `tidepool ${version} bench attention`,
    `device  ${device}`,
    `limits  ${rates}`,
    "",
  ];
  return `${[...lines, ...formatTable(head, cells)].join("\n")}\n`;
}

function whatIsRead({ tokens, batch, choice }: AttentionRow): string {
  if (batch > 0) return `a token of each of ${batch} sequences of ${tokens}`;
  return `a prompt of ${tokens}${choice === "tile" ? ", 128 tokens share a choice" : ""}`;
}

/** By what bounds it: products of a prompt, bytes of a token. */
function rateOf({ batch }: AttentionRow, kind: AttentionKind): string {
  return batch === 0
    ? `${kind.tflopPerS.toFixed(1)} TFLOP/s (${kind.percentOfMatrixRate.toFixed(0)} %)`
    : `${kind.gbPerS.toFixed(0)} GB/s (${kind.percentOfCopy.toFixed(0)} %)`;
}
