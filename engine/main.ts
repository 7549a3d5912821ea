/** Entry of the engine's bundle: the daemon and the engine's other commands, or in a worker thread the engine itself. */
import { dirname, join, resolve } from "node:path";
import { isMainThread, parentPort, workerData } from "node:worker_threads";
import { Argument, Command, CommanderError, InvalidArgumentError, Option } from "commander";
import packageJson from "../package.json" with { type: "json" };
import {
  KV_CACHE_FORMATS,
  type KvCacheFormat,
  RANDOM_TYPES,
  type RandomTypes,
} from "./backend/params.ts";
import { runAttention } from "./bench/attentionBench.ts";
import { BENCH_NAMES, runBench, runRandomLite } from "./bench/benchCommand.ts";
import type { BenchReport } from "./bench/report.ts";
import { runDoctor } from "./doctor/doctorCommand.ts";
import { ENGINE_PROCESS, type EngineWorkerData } from "./engineMessages.ts";
import { runEngineProcess, runEngineWorker } from "./engineWorker.ts";
import { addModelCommands } from "./modelStore/modelsCommand.ts";
import { resolveModel } from "./protocol/modelNames.ts";
import { runDaemon, startFailure } from "./server/daemon.ts";

const script = resolve(process.argv[1] ?? "");
const bundledFolder = join(dirname(script), "..", "engine", "models");
const bundledModel = join(bundledFolder, "tidepool-mini.gguf");

interface ModelOptions {
  model?: string;
  threads: number;
  device: (typeof DEVICES)[number];
  drafts: "on" | "off";
  kvCache: KvCacheFormat;
}

const DEVICES = ["auto", "cpu", "cuda"] as const;

interface ServeOptions extends ModelOptions {
  listen?: string;
  tokenFile?: string;
  idleExit: number;
  gpuIdle: number;
  context?: number;
}

interface BenchCommandOptions extends ModelOptions {
  source: string[];
  quick: boolean;
  json: boolean;
  randomLite?: RandomTypes;
  peer?: string;
}

/** A whole number of at least 0. Throws for commander to report. */
function wholeNumber(text: string): number {
  const value = Number(text);
  if (Number.isSafeInteger(value) && value >= 0 && text.trim() !== "") return value;
  throw new InvalidArgumentError(`expected a whole number, found ${text}`);
}

/** What every command needs to know of the model. */
function common({ model, threads, device, drafts, kvCache }: ModelOptions) {
  return {
    version: packageJson.version,
    modelPath: resolveModel(model ?? process.env["TIDEPOOL_MODEL"] ?? bundledModel, bundledFolder),
    threads,
    device,
    drafts: drafts !== "off",
    kvCache,
  } as const;
}

async function serve(options: ServeOptions): Promise<void> {
  const { listen, tokenFile, context } = options;
  process.exitCode = await runDaemon({
    script,
    ...common(options),
    idleExitMs: options.idleExit * 1000,
    gpuIdleMs: options.gpuIdle * 1000,
    print: (line) => process.stdout.write(`${line}\n`),
    ...(listen === undefined ? {} : { listen }),
    ...(tokenFile === undefined ? {} : { tokenFile }),
    ...(context === undefined ? {} : { contextLength: context }),
  });
}

async function bench(
  name: BenchReport["bench"] | "attention",
  options: BenchCommandOptions,
): Promise<void> {
  const { source: sources, quick, json, randomLite: types, peer, device } = options;
  if (name === "attention") {
    process.stdout.write(runAttention({ version: packageJson.version, device, quick }, json));
    return;
  }
  if (types !== undefined) {
    const command = { ...common(options), types, sources, peer, quick };
    process.stdout.write(runRandomLite(name, command, json));
    return;
  }
  process.stdout.write(await runBench(name, { script, ...common(options), sources, quick }, json));
}

async function doctor(options: ModelOptions & { json: boolean }): Promise<void> {
  const { text, exitCode } = await runDoctor(common(options), options.json);
  process.stdout.write(text);
  process.exitCode = exitCode;
}

function addCommand(program: Command, name: string, description: string): Command {
  return program
    .command(name)
    .description(description)
    .option(
      "--model <file>",
      "model file or name (tidepool models list); the bundled model when missing",
    )
    .option("--threads <n>", "0: all physical cores", wholeNumber, 0)
    .addOption(
      new Option(
        "--device <device>",
        "where to compute; auto is the GPU where a model of some size fits",
      )
        .choices(DEVICES)
        .default("auto"),
    )
    .addOption(
      new Option(
        "--drafts <on|off>",
        "guess tokens that repeat what stands before, where that is faster; the answers are the same",
      )
        .choices(["on", "off"])
        .default("on"),
    )
    .addOption(
      new Option(
        "--kv-cache <format>",
        "how the GPU keeps cached rows; fp8 takes 0.6 of the memory and rounds more",
      )
        .choices(KV_CACHE_FORMATS)
        .default("bf16"),
    );
}

function engineProgram(): Command {
  const program = new Command("tidepool-engine").version(packageJson.version);
  // Set before the commands are made, which inherit it: a wrong use is one line, written at the end of this file.
  program
    .exitOverride()
    .configureOutput({ writeErr: () => undefined })
    .showSuggestionAfterError(false);
  addCommand(program, "serve", "answer requests until nobody needs it")
    .option("--listen <host:port>", "also serve on a TCP address, with a bearer token")
    .option("--token-file <file>", "where the token is; made when missing")
    .option("--idle-exit <seconds>", "exit so long after the last client left", wholeNumber, 300)
    .option(
      "--gpu-idle <seconds>",
      "give the GPU back so long after the last request; the next one loads the model again; 0: never",
      wholeNumber,
      600,
    )
    .option("--context <tokens>", "smaller context than the model's", wholeNumber)
    .action(serve);
  addCommand(program, "bench", "measure speed beside the machine's own limits")
    .addArgument(new Argument("<what>", "what to measure").choices([...BENCH_NAMES, "attention"]))
    .option("--source <files...>", "source files to take prompts from", [])
    .addOption(
      new Option(
        "--random-lite <types>",
        "random weights of Coder-V2-Lite's shape, on the GPU",
      ).choices(RANDOM_TYPES),
    )
    .option("--peer <gguf>", "with --random-lite: llama-bench on a file of that shape as well")
    .option("--quick", "few repetitions: to see that it works, not for figures", false)
    .option("--json", "write JSON", false)
    .action(bench);
  addCommand(program, "doctor", "say what is wrong on this machine, and what to do")
    .option("--json", "write JSON", false)
    .action(doctor);
  addModelCommands(program.command("models").description("list, add and remove models"), {
    bundled: bundledFolder,
    print: (text) => process.stdout.write(text),
    note: (text) => process.stderr.write(process.stderr.isTTY ? `\r${text} ` : `${text}\n`),
  });
  return program;
}

/** One line on stderr; exit code 2 for wrong use, 1 for anything else. */
function reportFailure(error: unknown): void {
  if (error instanceof CommanderError && error.exitCode === 0) return;
  const isUse = error instanceof CommanderError;
  const why =
    isUse && error.code === "commander.help"
      ? new Error(`expected a command, found none: see --help`)
      : error;
  process.stderr.write(`${startFailure(why).replace("error: ", "")}\n`);
  process.exitCode = isUse ? 2 : 1;
}

if (isMainThread && process.argv[2] === ENGINE_PROCESS && process.send !== undefined) {
  runEngineProcess();
} else if (isMainThread) {
  engineProgram().parseAsync().catch(reportFailure);
} else if (parentPort !== null) {
  runEngineWorker(parentPort, workerData as EngineWorkerData);
}
