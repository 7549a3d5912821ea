import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { formatContextBench, reportOf } from "../contextBench/benchReport.ts";
import { contextBench } from "../contextBench/contextBench.ts";
import { writeExamples } from "../contextBench/examples.ts";
import { parseCount } from "./location.ts";
import { productRoot, productVersion } from "./productFiles.ts";

export interface ContextBenchCommandOptions {
  repos: string[];
  positions: string;
  seed: string;
  baselines: boolean;
  json?: boolean;
  /** File for what the ranking is fitted on; nothing is measured then. */
  examples?: string;
}

/** `bench context`: masks places in real repositories and prints what the context holds of what stood there. */
export async function contextBenchCommand(options: ContextBenchCommandOptions): Promise<void> {
  const roots = (options.repos.length > 0 ? options.repos : [productRoot]).map((r) => resolve(r));
  const missing = roots.find((root) => !existsSync(root));
  if (missing !== undefined) throw new Error(`expected a folder at ${missing}, found none`);
  const seed = parseCount(options.seed, "--seed", 0);
  const positions = parseCount(options.positions, "--positions", 1);
  if (options.examples !== undefined)
    return writeExamples({ roots, positions, seed, file: resolve(options.examples) });
  const result = await contextBench({
    roots,
    positions,
    seed,
    baselines: options.baselines,
    onRepository: (root, done) => {
      if (process.stderr.isTTY) process.stderr.write(`\r${done + 1} of ${roots.length} ${root} `);
    },
  });
  const report = reportOf(result, productVersion(), seed);
  process.stdout.write(options.json ? `${JSON.stringify(report)}\n` : formatContextBench(report));
}
