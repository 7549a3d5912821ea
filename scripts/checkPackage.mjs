// Asserts what the .vsix holds and that engine, addon and model work from an unpacked copy with no checkout around.
// The last line is `package: N passed, N failed`.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { makeRuntimeDir, stopEngine } from "./lib/engineProcess.mjs";
import { languageFileNames } from "./lib/languages.mjs";
import { inRoot } from "./lib/paths.mjs";
import { lastLine } from "./lib/runCommand.mjs";
import { copySample, samplePlace } from "./lib/sample.mjs";
import { vsixPath } from "./lib/vsix.mjs";

const MAX_BYTES = 60e6;
const REQUIRED = [
  "[Content_Types].xml",
  "extension.vsixmanifest",
  "extension/LICENSE.txt",
  "extension/changelog.md",
  "extension/dist/cli.js",
  "extension/dist/contextWorker.js",
  "extension/dist/engine.js",
  "extension/dist/extension.js",
  "extension/dist/native/tidepool.node",
  "extension/dist/syntaxWorker.js",
  "extension/dist/third-party-licenses.txt",
  "extension/package.json",
  "extension/readme.md",
];
const OPTIONAL = new Set([
  "extension/media/icon.png",
  "extension/dist/native/libtidepool_cuda.so", // there when the build had nvcc
]);

const modelFiles = () =>
  readdirSync(inRoot("engine", "models"))
    .filter((file) => file.endsWith(".gguf"))
    .map((file) => `extension/engine/models/${file}`);

/** All files below `folder`, with forward slashes. */
const listFiles = (folder) =>
  readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => path.relative(folder, path.join(entry.parentPath, entry.name)))
    .map((file) => file.split(path.sep).join("/"));

function run(command, args, options = {}) {
  const result = spawnSync(command, args, { encoding: "utf8", timeout: 120_000, ...options });
  const problem = result.error?.message ?? lastLine(result.stderr);
  assert.equal(
    result.status,
    0,
    `${path.basename(command)} ended with ${result.status}: ${problem}`,
  );
  return result.stdout;
}

function checkFiles(unpacked) {
  const found = listFiles(unpacked).filter((file) => !OPTIONAL.has(file));
  const languages = languageFileNames().map((file) => `extension/dist/languages/${file}`);
  assert.deepEqual(found.sort(), [...REQUIRED, ...languages, ...modelFiles()].sort());
}

function checkSize() {
  const { size } = statSync(vsixPath());
  assert.ok(size > 1e6 && size <= MAX_BYTES, `expected 1 to ${MAX_BYTES} bytes, found ${size}`);
}

/** The packed client starts the packed engine, which loads the packed addon and model. */
function checkCompletion(unpacked, runtimeDir) {
  const workspace = path.join(unpacked, "sample");
  copySample(workspace);
  const args = ["complete", samplePlace(workspace).spec, "--workspace", workspace, "--json"];
  const env = { PATH: process.env.PATH, HOME: unpacked, TIDEPOOL_RUNTIME_DIR: runtimeDir };
  const cli = path.join(unpacked, "extension", "dist", "cli.js");
  const answer = JSON.parse(run(process.execPath, [cli, ...args], { cwd: unpacked, env }));
  assert.equal(typeof answer.text, "string");
  assert.ok(answer.text.trim().length > 0, "expected a completion, found an empty one");
  // A text may come from the file itself; the tokens are the model's.
  assert.ok(answer.tokens > 0, `expected tokens of the model, found ${answer.tokens}`);
  assert.ok(answer.timings.totalMs > 0, `expected a time, found ${answer.timings.totalMs}`);
}

/** The packed client parses with the packed grammars. */
function checkContext(unpacked) {
  const workspace = path.join(unpacked, "context");
  copySample(workspace);
  writeFileSync(
    path.join(workspace, "new.ts"),
    'import { addMoney } from "./money";\nlet sum = \n',
  );
  const place = `${path.join(workspace, "new.ts")}:2:11`;
  const args = ["context", place, "--workspace", workspace, "--budget", "200"];
  const env = { PATH: process.env.PATH, HOME: unpacked };
  const cli = path.join(unpacked, "extension", "dist", "cli.js");
  const context = run(process.execPath, [cli, ...args], { cwd: unpacked, env });
  assert.match(context, /#money\.ts\n[^#]*export function addMoney\(left: Money, right: Money\)/);
}

async function main() {
  const unpacked = mkdtempSync(path.join(tmpdir(), "tidepool-vsix-"));
  const runtimeDir = makeRuntimeDir();
  const checks = [
    ["holds exactly the files of the list", () => checkFiles(unpacked)],
    ["is at most 60 MB", checkSize],
    ["reads other files with its own grammars", () => checkContext(unpacked)],
    ["completes with its own engine and model", () => checkCompletion(unpacked, runtimeDir)],
  ];
  const counts = { passed: 0, failed: 0 };
  try {
    run("unzip", ["-q", vsixPath(), "-d", unpacked]);
    for (const [name, check] of checks) {
      try {
        check();
        counts.passed++;
        process.stdout.write(`passed: ${name}\n`);
      } catch (error) {
        counts.failed++;
        process.stdout.write(`failed: ${name}\n${error.message}\n`);
      }
    }
  } finally {
    await stopEngine(runtimeDir);
    rmSync(unpacked, { recursive: true, force: true });
  }
  process.stdout.write(`package: ${counts.passed} passed, ${counts.failed} failed\n`);
  process.exitCode = counts.failed === 0 ? 0 : 1;
}

await main();
