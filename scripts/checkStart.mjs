// Runs `npm start` as a user would: once up to the completion, once serving, ended by Ctrl-C's signal.
// The last line is `start: N passed, N failed`.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { request } from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";
import { inRoot } from "./lib/paths.mjs";

const LIMIT_MS = 180_000;

/** Starts scripts/start.mjs; `onOutput` sees everything printed so far and may act on the child. */
function start(args, { onOutput = () => undefined, env = {} } = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [inRoot("scripts", "start.mjs"), ...args], {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, ...env },
    });
    let output = "";
    const onData = (chunk) => {
      output += chunk;
      onOutput(output, child);
    };
    child.stdout.on("data", onData);
    child.stderr.on("data", onData);
    const timer = setTimeout(() => child.kill("SIGKILL"), LIMIT_MS);
    child.once("error", reject);
    child.once("exit", (code, signal) => {
      clearTimeout(timer);
      resolve({ code, signal, output });
    });
  });
}

async function completesInTheTerminal() {
  const { code, output } = await start(["--no-serve"]);
  assert.equal(code, 0, output);
  assert.match(output, /One completion \(inventory\.py, \d+ ms\)/);
  assert.match(output, /total \+= «[^»]*\S[^»]*»/);
}

/** Status of a page of the served workbench. */
function fetchStatus(url) {
  return new Promise((resolve, reject) => {
    const call = request(url, (answer) => {
      answer.resume();
      answer.once("end", () => resolve(answer.statusCode));
    });
    call.once("error", reject);
    call.end();
  });
}

async function servesUntilInterrupted() {
  const temporary = mkdtempSync(path.join(tmpdir(), "tidepool-start-"));
  let asked;
  try {
    const onOutput = (text, child) => {
      const url = /VS Code with Tidepool: (\S+)/.exec(text)?.[1];
      if (url !== undefined) asked ??= askAndStop(url, child);
    };
    const { code, output } = await start([], { onOutput, env: { TMPDIR: temporary } });
    assert.ok(asked !== undefined, `expected an address, found: ${output}`);
    const { url, status, strangerStatus } = await asked;
    assert.ok(status === 200 || status === 302, `expected the workbench, found HTTP ${status}`);
    assert.equal(strangerStatus, 403);
    assert.equal(code, 0, output);
    await assert.rejects(fetchStatus(url), { code: "ECONNREFUSED" });
    const left = readdirSync(temporary).filter((entry) => entry.startsWith("tidepool-"));
    assert.deepEqual(left, [], "the engine's runtime folder is still there");
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
}

/** Fetches the page with and without its token, then sends what Ctrl-C sends. */
async function askAndStop(url, child) {
  const stranger = new URL(url);
  stranger.searchParams.delete("tkn");
  try {
    const status = await fetchStatus(url);
    return { url, status, strangerStatus: await fetchStatus(stranger) };
  } finally {
    child.kill("SIGINT");
  }
}

async function refusesABadPort() {
  const { code, output } = await start(["--port", "many"]);
  assert.equal(code, 1);
  assert.equal(output, 'start: --port takes a number from 0 to 65535, found "many"\n');
}

const checks = { completesInTheTerminal, servesUntilInterrupted, refusesABadPort };
const counts = { passed: 0, failed: 0 };
for (const [name, check] of Object.entries(checks)) {
  try {
    await check();
    counts.passed++;
    process.stdout.write(`passed: ${name}\n`);
  } catch (error) {
    counts.failed++;
    process.stdout.write(`failed: ${name}\n${error.message}\n`);
  }
}
process.stdout.write(`start: ${counts.passed} passed, ${counts.failed} failed\n`);
process.exitCode = counts.failed === 0 ? 0 : 1;
