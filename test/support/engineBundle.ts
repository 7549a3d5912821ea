/** The bundles as users run them; built when they are missing or older than their sources. */
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, statSync } from "node:fs";
import { join, resolve } from "node:path";

const root = resolve(import.meta.dirname, "../..");
const bundle = join(root, "dist", "engine.js");
const cli = join(root, "dist", "cli.js");
const bundledAddon = join(root, "dist", "native", "tidepool.node");
const builtAddon = join(root, "build", "native", "tidepool.node");

/** A model with every mechanism of the real one, and random weights. */
export const tinyModel = join(root, "test", "fixtures", "vectors", "tiny-f32.gguf");

/** Path of an up-to-date `dist/engine.js`. Throws when it cannot be built. */
export function engineBundle(): string {
  if (!existsSync(builtAddon)) run(["scripts/native.mjs"]);
  const isFresh =
    changedAt(bundle) >= sourcesChangedAt("engine") &&
    changedAt(bundledAddon) >= changedAt(builtAddon);
  if (!isFresh) run(["esbuild.mjs"]);
  return bundle;
}

/** Path of an up-to-date `dist/cli.js`, with the engine beside it. Throws when it cannot be built. */
export function cliBundle(): string {
  engineBundle();
  if (changedAt(cli) < sourcesChangedAt("src")) run(["esbuild.mjs"]);
  return cli;
}

/** Path of an up-to-date `dist/contextWorker.js`, with grammars beside it. Throws when it cannot be built. */
export function contextBundle(): string {
  cliBundle();
  return join(root, "dist", "contextWorker.js");
}

function sourcesChangedAt(folder: string): number {
  const files = readdirSync(join(root, folder), { recursive: true, encoding: "utf8" });
  const sources = files.filter((file) => /(?<!\.test)\.(?:ts|scm|json)$/.test(file));
  return Math.max(...sources.map((file) => changedAt(join(root, folder, file))));
}

function changedAt(file: string): number {
  return existsSync(file) ? statSync(file).mtimeMs : 0;
}

function run(args: string[]): void {
  const { status, stderr } = spawnSync(process.execPath, args, { cwd: root, encoding: "utf8" });
  if (status !== 0) throw new Error(`${args.join(" ")} ended with code ${status}: ${stderr}`);
}
