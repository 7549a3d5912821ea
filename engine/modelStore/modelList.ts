/** The user's own models: adding, removing and listing them. The list is a small file; models stay where they are unless copied. */
import { copyFileSync, mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { EngineError } from "../base/errors.ts";
import {
  type AddedModel,
  bundledModels,
  modelListPath,
  modelName,
  readAddedModels,
} from "../protocol/modelNames.ts";
import { type ModelFacts, modelFacts } from "./modelFacts.ts";

export interface StoreFolders {
  bundled: string;
  data: string;
}

export interface ListedModel {
  name: string;
  path: string;
  source: AddedModel["source"] | "bundled";
  /** Missing when the file cannot be used; `problem` then says why. */
  facts?: ModelFacts;
  problem?: string;
}

/** Bundled models first, then those that were added, each with what its header says. */
export function listModels(folders: StoreFolders): ListedModel[] {
  const bundled = bundledModels(folders.bundled).map((m) => ({ ...m, source: "bundled" as const }));
  return [...bundled, ...readAddedModels(folders.data)].map((model) => {
    try {
      return { ...model, facts: modelFacts(model.path) };
    } catch (error) {
      if (EngineError.is(error)) return { ...model, problem: error.message };
      throw error;
    }
  });
}

/** Adds the model file at `path` under `name`, after the loader has checked it. Throws `bad_model`, or `bad_request` for a name that is taken. */
export function addModel(
  folders: StoreFolders,
  path: string,
  options: { name?: string | undefined; source: AddedModel["source"] },
): ListedModel {
  const facts = modelFacts(path);
  const name = options.name ?? modelName(path);
  const added = readAddedModels(folders.data);
  const isBundled = bundledModels(folders.bundled).some((model) => model.name === name);
  const same = added.find((model) => model.name === name);
  if (isBundled || (same !== undefined && same.path !== resolve(path)))
    throw new EngineError(
      "bad_request",
      `expected a name that no other model has, found ${name}: give one with --name`,
    );
  if (name === "" || /[/\\\s]/.test(name))
    throw new EngineError("bad_request", `expected a name without slash or space, found "${name}"`);
  const target = options.source === "copy" ? copied(folders, path, name) : resolve(path);
  const model = { name, path: target, source: options.source };
  write(folders, [...added.filter((other) => other.name !== name), model]);
  return { ...model, facts };
}

/** Takes `name` off the list; a copy in the data folder is deleted, any other file stays. Throws `bad_request` for an unknown name. */
export function removeModel(folders: StoreFolders, name: string): AddedModel {
  const added = readAddedModels(folders.data);
  const model = added.find((other) => other.name === name);
  if (model === undefined) {
    const isBundled = bundledModels(folders.bundled).some((other) => other.name === name);
    const why = isBundled ? `${name}, which is bundled` : name;
    const names = added.map((other) => other.name).join(", ") || "none";
    throw new EngineError(
      "bad_request",
      `expected the name of an added model (${names}), found ${why}`,
    );
  }
  write(
    folders,
    added.filter((other) => other.name !== name),
  );
  if (model.source === "copy") rmSync(model.path, { force: true });
  return model;
}

function copied(folders: StoreFolders, path: string, name: string): string {
  const folder = join(folders.data, "models");
  const target = join(folder, `${name}.gguf`);
  mkdirSync(folder, { recursive: true });
  // Renamed into place: an engine that has the old file mapped keeps it.
  copyFileSync(path, `${target}.${process.pid}`);
  renameSync(`${target}.${process.pid}`, target);
  return target;
}

function write(folders: StoreFolders, models: readonly AddedModel[]): void {
  const path = modelListPath(folders.data);
  mkdirSync(folders.data, { recursive: true });
  writeFileSync(`${path}.${process.pid}`, `${JSON.stringify(models, undefined, 2)}\n`);
  renameSync(`${path}.${process.pid}`, path);
}
