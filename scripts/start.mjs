// `npm start`: installs, builds, makes one completion in the terminal, then serves a VS Code with the extension in it.
//   --desktop    open an installed desktop VS Code instead of serving one
//   --no-serve   end after the completion
//   --port N     port of the served VS Code (default: a free one)
import { spawnSync } from "node:child_process";
import { parseArgs } from "node:util";
import { installForBuild } from "./lib/build.mjs";
import { openDesktop } from "./lib/desktop.mjs";
import { makeRuntimeDir, stopEngine } from "./lib/engineProcess.mjs";
import { checkNodeVersion } from "./lib/nodeModules.mjs";
import { inRoot } from "./lib/paths.mjs";
import { step } from "./lib/progress.mjs";
import { copySample } from "./lib/sample.mjs";
import { serveUntil } from "./lib/serve.mjs";
import { showCompletion } from "./lib/showCompletion.mjs";
import { ensureVsix } from "./lib/vsix.mjs";

const INTERRUPTED = Symbol("interrupted");

function readOptions() {
  const { values } = parseArgs({
    options: {
      desktop: { type: "boolean", default: false },
      "no-serve": { type: "boolean", default: false },
      port: { type: "string", default: "0" },
    },
  });
  const port = Number(values.port);
  if (!Number.isInteger(port) || port < 0 || port > 65535) {
    throw new Error(`--port takes a number from 0 to 65535, found "${values.port}"`);
  }
  return { ...values, port };
}

/** Everything up to the completion; returns what serving needs. */
async function prepare(runtimeDir) {
  checkNodeVersion();
  await step("install", installForBuild);
  const vsix = await step("build", ensureVsix);
  const workspace = inRoot(".cache", "sample");
  copySample(workspace);
  // A repository of its own: that of the checkout ignores this folder, and what git ignores is not completed.
  spawnSync("git", ["init", "--quiet", workspace]);
  await showCompletion({ workspace, runtimeDir });
  return { vsix, workspace };
}

async function main() {
  const options = readOptions();
  const interrupted = nextSignal();
  // A private engine, so that ending this script leaves nothing behind.
  const runtimeDir = makeRuntimeDir();
  try {
    const ready = await Promise.race([prepare(runtimeDir), interrupted]);
    if (ready === INTERRUPTED || options["no-serve"]) return;
    if (options.desktop) openDesktop(ready);
    else await serveUntil(interrupted, { ...ready, runtimeDir, port: options.port });
  } finally {
    await stopEngine(runtimeDir);
  }
}

function nextSignal() {
  return new Promise((resolve) => {
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
      process.once(signal, () => resolve(INTERRUPTED));
    }
  });
}

try {
  await main();
  process.exit();
} catch (error) {
  process.stderr.write(`start: ${error.message}\n`);
  process.exit(1);
}
