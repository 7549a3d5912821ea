/** Entry of the engine's bundle: the daemon, or in a worker thread the engine itself. */
import { dirname, join, resolve } from "node:path";
import { isMainThread, parentPort, workerData } from "node:worker_threads";
import { Command, Option } from "commander";
import packageJson from "../package.json" with { type: "json" };
import type { EngineWorkerData } from "./engineMessages.ts";
import { runEngineWorker } from "./engineWorker.ts";
import { runDaemon, startFailure } from "./server/daemon.ts";

const script = resolve(process.argv[1] ?? "");
const bundledModel = join(dirname(script), "..", "engine", "models", "tidepool-mini.gguf");

interface ServeOptions {
  model?: string;
  listen?: string;
  tokenFile?: string;
  idleExit: number;
  threads: number;
  context?: number;
}

/** A whole number of at least 0. Throws for commander to report. */
function wholeNumber(text: string): number {
  const value = Number(text);
  if (Number.isSafeInteger(value) && value >= 0 && text.trim() !== "") return value;
  throw new Error(`expected a whole number, found ${text}`);
}

async function serve(options: ServeOptions): Promise<void> {
  const { model, listen, tokenFile, context } = options;
  process.exitCode = await runDaemon({
    script,
    version: packageJson.version,
    modelPath: resolve(model ?? process.env["TIDEPOOL_MODEL"] ?? bundledModel),
    threads: options.threads,
    idleExitMs: options.idleExit * 1000,
    print: (line) => process.stdout.write(`${line}\n`),
    ...(listen === undefined ? {} : { listen }),
    ...(tokenFile === undefined ? {} : { tokenFile }),
    ...(context === undefined ? {} : { contextLength: context }),
  });
}

async function main(): Promise<void> {
  const program = new Command("tidepool-engine").version(packageJson.version);
  program
    .command("serve")
    .option("--model <file>", "GGUF file of architecture tidepool")
    .addOption(new Option("--device <device>").choices(["auto", "cpu"]).default("auto"))
    .option("--listen <host:port>", "also serve on a TCP address, with a bearer token")
    .option("--token-file <file>", "where the token is; made when missing")
    .option("--idle-exit <seconds>", "exit so long after the last client left", wholeNumber, 300)
    .option("--threads <n>", "0: all physical cores", wholeNumber, 0)
    .option("--context <tokens>", "smaller context than the model's", wholeNumber)
    .action(serve);
  await program.parseAsync();
}

if (isMainThread) {
  main().catch((error: unknown) => {
    process.stderr.write(`${startFailure(error)}\n`);
    process.exitCode = 1;
  });
} else if (parentPort !== null) {
  runEngineWorker(parentPort, workerData as EngineWorkerData);
}
