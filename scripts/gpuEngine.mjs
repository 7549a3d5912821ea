// Bundles test/gpu/main.ts into build/gpu-engine/main.cjs, a file that needs node and the native addon alone, and runs
// it with the given arguments; `--bundle` only writes it, for a GPU machine that has no checkout's packages.
import { spawnSync } from "node:child_process";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const root = path.join(path.dirname(fileURLToPath(import.meta.url)), "..");
const outfile = path.join(root, "build", "gpu-engine", "main.cjs");
await build({
  absWorkingDir: root,
  entryPoints: ["test/gpu/main.ts"],
  outfile,
  bundle: true,
  platform: "node",
  format: "cjs",
  target: "node20",
  logLevel: "warning",
  // As in esbuild.mjs: CommonJS has no import.meta, and the addon is found from there.
  define: { "import.meta.url": "bundleUrl", "import.meta.dirname": "__dirname" },
  banner: { js: 'const bundleUrl = require("node:url").pathToFileURL(__filename).href;' },
});
const args = process.argv.slice(2);
if (!args.includes("--bundle")) {
  const { status } = spawnSync(process.execPath, [outfile, ...args], {
    cwd: root,
    stdio: "inherit",
  });
  process.exitCode = status ?? 1;
}
