// The command line client. Every failure is one line on stderr: exit code 2 for wrong use, 1 for anything else.
import { Command, CommanderError } from "commander";
import { errorText } from "../base/errorText.ts";
import { UsageError } from "./cliError.ts";
import { type CompleteOptions, completeCommand } from "./completeCommand.ts";
import { type ContextBenchCommandOptions, contextBenchCommand } from "./contextBenchCommand.ts";
import { type ContextOptions, contextCommand } from "./contextCommand.ts";
import { engineCommand } from "./engineCommand.ts";
import { type LinesOptions, linesCommand } from "./linesCommand.ts";
import { modelInfo } from "./modelsCommand.ts";
import { productVersion } from "./productFiles.ts";
import { type ReplayOptions, replayCommand } from "./replayCommand.ts";

const ENGINE_COMMANDS: readonly (readonly [name: string, what: string])[] = [
  ["serve", "run the engine in the foreground"],
  ["bench", "measure decode, prefill, fim, attention, fim --replay, lines or context"],
  ["doctor", "say what is wrong on this machine, and what to do"],
];

/** The engine reads model files, so it does all but `info`, which asks a running engine. */
const MODELS = "list, info, add, pull or remove models";

function program(): Command {
  const root = new Command("tidepool")
    .description("Local code completion.")
    .version(productVersion());
  // Set before the commands are made, which inherit it.
  root
    .exitOverride()
    .configureOutput({ writeErr: () => undefined })
    .showSuggestionAfterError(false);
  root
    .command("complete <FILE:LINE:COL>")
    .description("complete the code at this place; the text after it is the suffix")
    .option("--workspace <dir>", "folder that the file belongs to")
    .option(
      "--model <model>",
      "model file or name; another than the running engine's gets an engine of its own",
    )
    .option("--max-tokens <n>", "most tokens to generate")
    .option("--json", "write text, tokens, finish reason and timings as JSON")
    .action((place: string, options: CompleteOptions) => completeCommand(place, options));
  root
    .command("context <FILE:LINE:COL>")
    .description("show the other files that a completion at this place would see")
    .requiredOption("--budget <tokens>", "most tokens of context")
    .option("--workspace <dir>", "folder that the file belongs to")
    .option("--json", "write context, tokens, snippets and time as JSON")
    .action((place: string, options: ContextOptions) => contextCommand(place, options));
  root.command("models").description(MODELS).command("info <model>").action(modelInfo);
  for (const [name, what] of ENGINE_COMMANDS) root.command(name).description(what);
  return root;
}

const CLIENT_BENCHES: ReadonlySet<string> = new Set(["lines", "context"]);

const ALSO =
  "\nThe client measures too: bench fim --replay, bench lines and bench context; --help behind each shows its options.\n";

function asksHelp(args: readonly string[]): boolean {
  return args.includes("--help") || args.includes("-h");
}

/** `bench fim --replay`, `bench lines` and `bench context` run the client's code, which no engine command does. */
function runsInClient([, what = "", ...options]: readonly string[]): boolean {
  if (CLIENT_BENCHES.has(what) || options.includes("--replay")) return true;
  return what === "fim" && asksHelp(options);
}

function benchProgram(): Command {
  const bench = new Command("tidepool bench");
  bench.exitOverride().configureOutput({ writeErr: () => undefined });
  bench
    .command("fim")
    .description("what somebody who types gets")
    .addHelpText("after", "\nWithout --replay the engine is measured: see tidepool bench --help.")
    .requiredOption("--replay", "type real source files key by key")
    .option("--files <folders...>", "folders of source files; the product's own when missing", [])
    .option("--model <file>", "model file; the bundled one when missing")
    .option("--sessions <n>", "places to type at", "60")
    .option("--length <n>", "characters to type at each", "240")
    .option("--seed <n>", "another number chooses other places", "1")
    .option("--debounce <ms>", "milliseconds without a keystroke before a request", "20")
    .option("--json", "write JSON")
    .action((options: ReplayOptions) => replayCommand(options));
  bench
    .command("lines")
    .description("how often the model says exactly the line that was taken out")
    .option("--files <folders...>", "folders of source files; the product's own when missing", [])
    .option("--model <file>", "model file; the bundled one when missing")
    .option("--cases <n>", "lines of each language", "60")
    .option("--seed <n>", "another number chooses other lines", "1")
    .option("--json", "write JSON")
    .action((options: LinesOptions) => linesCommand(options));
  bench
    .command("context")
    .description("what the other files in a prompt hold of what is written next")
    .option("--repos <folders...>", "repositories; the product's own when missing", [])
    .option("--positions <n>", "masked places in each", "60")
    .option("--seed <n>", "another number chooses other places", "1")
    .option("--no-baselines", "leave the baselines out, which take most of the time")
    .option("--examples <file>", "measure nothing, and write what the ranking is fitted on")
    .option("--json", "write JSON")
    .action((options: ContextBenchCommandOptions) => contextBenchCommand(options));
  return bench;
}

/** The engine reads its own arguments, so that there is one place that knows them. */
async function run(args: readonly string[]): Promise<void> {
  const [command] = args;
  if (command === "bench" && runsInClient(args))
    return void (await benchProgram().parseAsync(args.slice(1), { from: "user" }));
  if (command === undefined)
    throw new UsageError("expected a command, found none: see tidepool --help");
  const isEngines = ENGINE_COMMANDS.some(([name]) => name === command);
  if (isEngines || (command === "models" && args[1] !== "info")) await engineCommand(args);
  else await program().parseAsync(args, { from: "user" });
  if (command === "bench" && asksHelp(args)) process.stdout.write(ALSO);
}

function exitCodeOf(error: unknown): number {
  if (error instanceof UsageError) return 2;
  return error instanceof CommanderError ? 2 : 1;
}

run(process.argv.slice(2)).catch((error: unknown) => {
  if (error instanceof CommanderError && error.exitCode === 0) return;
  const message =
    error instanceof CommanderError && error.code === "commander.help"
      ? "expected a command"
      : errorText(error);
  process.stderr.write(`tidepool: ${message.replace(/^error: /, "")}\n`);
  process.exitCode = exitCodeOf(error);
});
