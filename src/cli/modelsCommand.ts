import { existsSync, readdirSync, statSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { withEngine } from "./engineSession.ts";
import { modelsFolder } from "./productFiles.ts";

/** `models list`: the bundled models, and the one that the environment names. */
export function listModels(options: { json?: boolean }): void {
  const models = modelFiles().map((path) => ({
    name: basename(path, ".gguf"),
    path,
    bytes: statSync(path).size,
  }));
  if (options.json) process.stdout.write(`${JSON.stringify(models)}\n`);
  else
    for (const { name, path, bytes } of models)
      process.stdout.write(`${name}\t${bytes} bytes\t${path}\n`);
}

/** `models info MODEL`: what the engine says of a model, by name or path, when it has loaded it. */
export async function modelInfo(nameOrPath: string): Promise<void> {
  const named = modelFiles().find((path) => basename(path, ".gguf") === nameOrPath);
  const model = await withEngine(named ?? nameOrPath, ({ health }) =>
    Promise.resolve(health.model),
  );
  process.stdout.write(`${JSON.stringify(model, undefined, 2)}\n`);
}

function modelFiles(): string[] {
  const bundled = existsSync(modelsFolder)
    ? readdirSync(modelsFolder).filter((name) => name.endsWith(".gguf"))
    : [];
  const fromEnvironment = process.env["TIDEPOOL_MODEL"];
  const files = bundled.sort().map((name) => join(modelsFolder, name));
  if (fromEnvironment && existsSync(fromEnvironment)) files.push(resolve(fromEnvironment));
  return [...new Set(files)];
}
