/** The peer's own benchmark on a file of the same shape, in the same run: llama.cpp's `llama-bench`. */
import { spawnSync } from "node:child_process";
import * as v from "valibot";
import { EngineError } from "../base/errors.ts";
import type { RandomLiteReport, RandomLiteRow, RandomLiteSizes } from "./randomLite.ts";

const PROGRAM = "llama-bench";
const MOST_OUTPUT = 1 << 26;

const entriesSchema = v.array(
  v.object({
    n_prompt: v.number(),
    n_gen: v.number(),
    n_depth: v.number(),
    avg_ts: v.number(),
  }),
);

/**
 * Adds the peer's tokens per second to the rows of `report`, and how many times as many we reach. Call it after the GPU
 * was given back, and not for `fim`, which it lacks. Throws `environment` when there is no llama-bench or it fails.
 */
export function withPeer(
  report: RandomLiteReport,
  sizes: RandomLiteSizes,
  file: string,
): RandomLiteReport {
  const { bench } = report;
  const lengths = (bench === "decode" ? sizes.depths : sizes.prompts).join(",");
  const what =
    bench === "decode"
      ? ["-p", "0", "-n", String(sizes.decodeSteps), "-d", lengths]
      : ["-p", lengths, "-n", "0", "-ub", "2048"];
  const entries = run(["-m", file, "-ngl", "99", "-fa", "1", "-o", "json", ...what]);
  const speeds = entries.map((entry) => ({
    length: bench === "decode" ? entry.n_depth : entry.n_prompt,
    tokensPerS: entry.avg_ts,
  }));
  return { ...report, rows: report.rows.map((row) => compared(row, speeds)) };
}

function compared(
  row: RandomLiteRow,
  speeds: readonly { length: number; tokensPerS: number }[],
): RandomLiteRow {
  const same = speeds.find(({ length }) => length === row.length);
  if (same === undefined) return row;
  const { tokensPerS } = same;
  return { ...row, peer: { tokensPerS, ratio: row.tokensPerS / tokensPerS } };
}

function run(args: readonly string[]): v.InferOutput<typeof entriesSchema> {
  const { error, status, stdout, stderr } = spawnSync(PROGRAM, args, {
    encoding: "utf8",
    maxBuffer: MOST_OUTPUT,
  });
  if (error !== undefined)
    throw new EngineError("environment", `expected ${PROGRAM} on the PATH, found ${error.message}`);
  if (status !== 0) {
    const last = stderr.trim().split("\n").at(-1) ?? "";
    throw new EngineError("environment", `${PROGRAM} ended with ${status ?? "a signal"}: ${last}`);
  }
  try {
    return v.parse(entriesSchema, JSON.parse(stdout));
  } catch (cause) {
    const message = `expected figures of ${PROGRAM} as JSON, found ${stdout.slice(0, 80)}`;
    throw new EngineError("environment", message, { cause });
  }
}
