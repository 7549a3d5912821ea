/** Names of models: which files they stand for. Engine and clients resolve them through this file. */
import { readdirSync, readFileSync, statSync } from "node:fs";
import { homedir } from "node:os";
import { basename, join, resolve } from "node:path";

/** A model file that the user added or downloaded. */
export interface AddedModel {
  name: string;
  /** Absolute. */
  path: string;
  /** Where it came from: a file of the user, a copy in the data folder, or the hub's cache. */
  source: "file" | "copy" | "hub";
}

/** A name stands for no model, or the list of models cannot be read; the message is one line for the user. */
export class ModelNameError extends Error {
  override readonly name = "ModelNameError";
}

/** Folder of what the user keeps: TIDEPOOL_DATA_DIR, else $XDG_DATA_HOME/tidepool, else ~/.local/share/tidepool. */
export function dataFolder(env: NodeJS.ProcessEnv = process.env): string {
  const own = env["TIDEPOOL_DATA_DIR"];
  if (own) return resolve(own);
  return join(env["XDG_DATA_HOME"] || join(homedir(), ".local", "share"), "tidepool");
}

/** The file that lists the added models: JSON, an array of AddedModel. */
export function modelListPath(folder: string = dataFolder()): string {
  return join(folder, "models.json");
}

/** The added models by name; none when there is no list. Throws ModelNameError when the list is damaged. */
export function readAddedModels(folder: string = dataFolder()): AddedModel[] {
  const path = modelListPath(folder);
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw new ModelNameError(`cannot read the list of models ${path}: ${String(error)}`);
  }
  const value = parsed(text);
  if (Array.isArray(value) && value.every(isAddedModel)) return value;
  throw new ModelNameError(
    `expected a list of models in ${path}, found something else: remove the file and add them again`,
  );
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // Not JSON is one of the ways in which it is no list; the caller says so.
    return undefined;
  }
}

function isAddedModel(value: unknown): value is AddedModel {
  if (typeof value !== "object" || value === null) return false;
  const { name, path, source } = value as Record<keyof AddedModel, unknown>;
  const isSource = source === "file" || source === "copy" || source === "hub";
  return typeof name === "string" && typeof path === "string" && isSource;
}

/** The model files that the product brings, from its folder; none when that is missing. */
export function bundledModels(folder: string): { name: string; path: string }[] {
  try {
    const files = readdirSync(folder).filter((file) => file.endsWith(".gguf"));
    return files.sort().map((file) => ({ name: modelName(file), path: join(folder, file) }));
  } catch {
    // A build without bundled models has no such folder.
    return [];
  }
}

/** The name of a model file: its own without the extension. */
export function modelName(path: string): string {
  return basename(path, ".gguf");
}

/**
 * Absolute path of the model that a user means by `text`: an existing file, a bundled model, or an added one.
 * A path that does not exist is returned as it is, for the loader to refuse. Throws ModelNameError for an unknown name.
 */
export function resolveModel(text: string, bundledFolder: string, data = dataFolder()): string {
  if (isFile(text)) return resolve(text);
  const known = [...bundledModels(bundledFolder), ...readAddedModels(data)];
  const found = known.find((model) => model.name === text);
  if (found !== undefined) return found.path;
  if (/[/\\]|\.gguf$/.test(text)) return resolve(text);
  const names = known.map((model) => model.name).join(", ");
  throw new ModelNameError(
    `expected a model file or one of the models ${names}, found ${text}: see tidepool models list`,
  );
}

function isFile(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isFile() === true;
}
