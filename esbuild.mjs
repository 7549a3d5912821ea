// Bundles the programs of the product into dist/: extension with its threads, CLI and engine. `--minify` is for
// the package.
import { existsSync } from "node:fs";
import { copyFile, mkdir, rename } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { copyLanguages } from "./scripts/lib/languages.mjs";

const root = path.dirname(fileURLToPath(import.meta.url));

const common = {
  absWorkingDir: root,
  bundle: true,
  platform: "node",
  format: "cjs",
  target: "node20",
  outdir: "dist",
  minify: process.argv.includes("--minify"),
  // Error names stand in log lines, where a minified name would tell nobody anything.
  keepNames: true,
  legalComments: "eof",
  logLevel: "warning",
  // CommonJS bundles have no import.meta; the sources use it to find files beside them.
  define: { "import.meta.url": "bundleUrl", "import.meta.dirname": "__dirname" },
  banner: { js: 'const bundleUrl = require("node:url").pathToFileURL(__filename).href;' },
};

/** Renamed into place: a running engine keeps the old library mapped, and writing into that file would crash it. */
async function copyNative(file) {
  const target = path.join(root, "dist", "native", file);
  const fresh = `${target}.${process.pid}`;
  await mkdir(path.dirname(target), { recursive: true });
  await copyFile(path.join(root, "build", "native", file), fresh);
  await rename(fresh, target);
}

/** The CUDA kernels are there when nvcc was; the addon loads them from its own folder when a GPU is asked for. */
async function copyCudaKernels() {
  const file = "libtidepool_cuda.so";
  if (existsSync(path.join(root, "build", "native", file))) await copyNative(file);
}

await Promise.all([
  build({ ...common, entryPoints: { extension: "src/extension.ts" }, external: ["vscode"] }),
  build({
    ...common,
    entryPoints: {
      cli: "src/cli/main.ts",
      engine: "engine/main.ts",
      contextWorker: "src/context/contextWorker.ts",
      syntaxWorker: "src/syntax/syntaxWorker.ts",
    },
  }),
  copyLanguages(path.join(root, "dist", "languages")),
  copyNative("tidepool.node"),
  copyCudaKernels(),
]);
