// Runs the browser suites (test/vscode/ui/*.ui.mjs), or that which TIDEPOOL_TEST_ONLY names, under node:test, one file after the other, and counts their tests.
import { readdirSync } from "node:fs";
import path from "node:path";
import { run } from "node:test";
import { inRoot } from "../../scripts/lib/paths.mjs";

const LIMIT_MS = 240_000;

/** @returns {Promise<{passed: number, failed: number, skipped: number, lines: string[]}>} */
export async function runUi({ serverMain, vsix }) {
  const folder = inRoot("test", "vscode", "ui");
  const only = process.env.TIDEPOOL_TEST_ONLY;
  const files = readdirSync(folder).filter(
    (file) => file.endsWith(".ui.mjs") && (only === undefined || file.startsWith(`${only}.`)),
  );
  // The suites run in child processes, which inherit the environment.
  process.env.VSCODE_SERVER_MAIN = serverMain;
  process.env.TIDEPOOL_TEST_VSIX = vsix;
  const sum = { passed: 0, failed: 0, skipped: 0, lines: [] };
  const paths = files.map((file) => path.join(folder, file));
  for await (const { type, data } of run({ files: paths, concurrency: 1, timeout: LIMIT_MS })) {
    if (type === "test:stderr" || type === "test:stdout") process.stderr.write(data.message);
    if (type === "test:pass") countPass(sum, data);
    if (type === "test:fail") countFail(sum, data);
  }
  if (sum.passed + sum.failed === 0) return { ...sum, failed: 1, lines: ["no browser test ran"] };
  return sum;
}

const isSuite = (data) => data.details.type === "suite" || data.name.endsWith(".ui.mjs");

function countPass(sum, data) {
  if (data.skip !== undefined || data.todo !== undefined) {
    sum.skipped++;
    sum.lines.push(`skipped: ${data.name}`);
  } else if (!isSuite(data)) {
    sum.passed++;
    sum.lines.push(`passed: ${data.name} (${Math.round(data.details.duration_ms)} ms)`);
  }
}

function countFail(sum, data) {
  const cause = data.details.error?.cause ?? data.details.error;
  // A suite fails because one of its tests did, which is counted there; every other reason is its own failure.
  if (isSuite(data) && data.details.error?.failureType === "subtestsFailed") return;
  sum.failed++;
  sum.lines.push(`failed: ${data.name}\n${cause?.stack ?? cause}`);
}
