// Builds the product step by step; every step is quick when its inputs did not change.
import { existsSync } from "node:fs";
import { ensureNodeModules } from "./nodeModules.mjs";
import { inRoot } from "./paths.mjs";
import { mustRun } from "./runCommand.mjs";
import { ensureTools, installHint } from "./systemPackages.mjs";

/** The files that make the product; all exist after a build. */
export const products = [
  "extension.js",
  "contextWorker.js",
  "syntaxWorker.js",
  "cli.js",
  "engine.js",
  "native/tidepool.node",
  "languages/web-tree-sitter.wasm",
].map((file) => inRoot("dist", file));

/** Whether every file of a build is there; says nothing about its age. */
export const isBuilt = () => products.every((file) => existsSync(file));

/** Installs compilers (system) and npm packages. Throws one line when something cannot be had. */
export async function installForBuild() {
  const { missing } = await ensureTools(["compiler", "cmake", "make"]);
  if (missing.length > 0) throw new Error(installHint(missing));
  await ensureNodeModules();
}

/** Native code, then the bundles. `report` is told the name of each step. */
export async function buildProduct(report = () => undefined, { minify = false } = {}) {
  report("native code");
  await mustRun("build-native", process.execPath, [inRoot("scripts", "native.mjs")]);
  report("bundles");
  const flags = minify ? ["--minify"] : [];
  await mustRun("build-bundles", process.execPath, [inRoot("esbuild.mjs"), ...flags]);
}
