/** `models list|add|pull|remove`: what the commands print. */
import type { Command } from "commander";
import { EngineError } from "../base/errors.ts";
import { dataFolder } from "../protocol/modelNames.ts";
import { type DownloadProgress, download } from "./download.ts";
import { findHubFile, type HubRequest, hubAccess } from "./hubFile.ts";
import {
  addModel,
  type ListedModel,
  listModels,
  removeModel,
  type StoreFolders,
} from "./modelList.ts";

const MIB = 1024 * 1024;

interface ModelsCommand {
  bundled: string;
  /** Results, for stdout. */
  print: (text: string) => void;
  /** Progress, for people who look at a terminal. */
  note: (text: string) => void;
}

function folders({ bundled }: ModelsCommand): StoreFolders {
  return { bundled, data: dataFolder() };
}

/** One line per model: name, size, quantisation, context, infilling, memory, path. */
function printModels(command: ModelsCommand, asJson: boolean): void {
  const models = listModels(folders(command));
  command.print(asJson ? `${JSON.stringify(models)}\n` : models.map(line).join(""));
}

function line(model: ListedModel): string {
  const { name, path, source, facts, problem } = model;
  if (facts === undefined) return `${name}\tcannot be used: ${problem ?? "unknown"}\n`;
  const cells = [
    name,
    `${(facts.bytes / MIB).toFixed(0)} MiB`,
    facts.quantisation,
    `context ${facts.contextLength}`,
    facts.fimTrained ? "fills in the middle" : "not trained to fill in the middle",
    facts.fits ? "fits in memory" : "does not fit in free memory",
    source,
    path,
  ];
  return `${cells.join("\t")}\n`;
}

interface AddOptions {
  name?: string;
  copy: boolean;
}

/** Adds a model file that lies on this machine. */
function addFile(command: ModelsCommand, path: string, { name, copy }: AddOptions): void {
  command.print(line(addModel(folders(command), path, { name, source: copy ? "copy" : "file" })));
}

/** Downloads a model file into the hub's cache and adds it. A file that this engine cannot run stays in the cache and is not added. */
async function pullModel(
  command: ModelsCommand,
  request: HubRequest & { name?: string },
): Promise<void> {
  const access = hubAccess();
  const file = await findHubFile(request, access);
  const path = await download(file, access, progressNotes(command.note));
  try {
    command.print(line(addModel(folders(command), path, { name: request.name, source: "hub" })));
  } catch (cause) {
    if (!EngineError.is(cause, "bad_model")) throw cause;
    throw new EngineError("bad_model", `${cause.message}; it stays in the cache, not added`, {
      cause,
    });
  }
}

/** Takes a model off the list. */
function forgetModel(command: ModelsCommand, name: string): void {
  const { path, source } = removeModel(folders(command), name);
  const fate = source === "copy" ? "its copy was deleted" : `the file stays: ${path}`;
  command.print(`removed ${name}; ${fate}\n`);
}

/** One note per whole percent. */
function progressNotes(note: (text: string) => void): (progress: DownloadProgress) => void {
  let last = -1;
  return ({ bytes, of }) => {
    const percent = Math.floor((100 * bytes) / of);
    if (percent === last) return;
    last = percent;
    note(`${percent} % of ${(of / MIB).toFixed(0)} MiB`);
  };
}

interface PullOptions {
  file?: string;
  revision?: string;
  name?: string;
}

/** Adds `list`, `add`, `pull` and `remove` to the command `models`. */
export function addModelCommands(models: Command, command: ModelsCommand): void {
  models
    .command("list")
    .description("the bundled models and those that were added")
    .option("--json", "write JSON", false)
    .action(({ json }: { json: boolean }) => printModels(command, json));
  models
    .command("add <file>")
    .description("add a GGUF file of this machine under a name")
    .option("--name <name>", "the file's own name when missing")
    .option("--copy", "copy the file instead of using it where it lies", false)
    .action((file: string, options: AddOptions) => addFile(command, file, options));
  models
    .command("pull <owner/name>")
    .description(
      "download a GGUF file from the Hugging Face hub, into the cache that its programs share",
    )
    .option("--file <path>", "file in the repository, when it has several")
    .option("--revision <revision>", "branch, tag or commit; main when missing")
    .option("--name <name>", "the file's own name when missing")
    .action((repo: string, options: PullOptions) => pullModel(command, { repo, ...options }));
  models
    .command("remove <name>")
    .description("take an added model off the list")
    .action((name: string) => forgetModel(command, name));
}
