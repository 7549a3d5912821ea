/** `bench fim --replay` and `bench lines` as a user runs them, on a folder of two files with the tiny model. */
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { LineReport } from "../../src/replay/lineBench.ts";
import type { ReplayReport } from "../../src/replay/replayReport.ts";
import { cliBundle, tinyModel } from "../support/engineBundle.ts";

let dir: string;
let bundle: string;
beforeAll(() => {
  bundle = cliBundle();
  dir = mkdtempSync(join(tmpdir(), "tidepool-replay-test-"));
  const lines = (line: (i: number) => string) =>
    Array.from({ length: 60 }, (_, i) => `${line(i)}\n`).join("");
  writeFileSync(
    join(dir, "stock.py"),
    lines((i) => `stock_${i} = count_items(shelf, ${i})`),
  );
  writeFileSync(
    join(dir, "stock.ts"),
    lines((i) => `export const stock${i} = countItems(shelf, ${i});`),
  );
});
afterAll(() => rmSync(dir, { recursive: true }));

function bench(...args: string[]) {
  const child = spawn(process.execPath, [bundle, "bench", ...args]);
  const ended = { code: null as number | null, stdout: "", stderr: "" };
  for (const stream of ["stdout", "stderr"] as const)
    child[stream].setEncoding("utf8").on("data", (text: string) => {
      ended[stream] += text;
    });
  return new Promise<typeof ended>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code) => resolve({ ...ended, code }));
  });
}

const few = ["--sessions", "2", "--length", "60", "--model", tinyModel];

test.each([
  [
    "its own options, and where the engine's are",
    ["fim"],
    ["--replay", "--sessions", "bench --help"],
  ],
  ["the options of the lines", ["lines"], ["--cases"]],
  ["the engine's options, and what else there is", [], ["--random-lite", "fim --replay"]],
])("help shows %s", async (_, what, wanted) => {
  const { code, stdout } = await bench(...what, "--help");
  expect(code).toBe(0);
  for (const text of wanted) expect(stdout).toContain(text);
});

test("types two files and reports every source, what the cache saved and how soon texts came", async () => {
  const { code, stdout, stderr } = await bench("fim", "--replay", "--json", ...few, "--files", dir);
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  const report = JSON.parse(stdout) as ReplayReport;
  const row = (source: string, language: string, taking: string) =>
    report.rows.find((r) => r.source === source && r.language === language && r.taking === taking);
  for (const taking of ["whole", "word"]) {
    const plain = row("words and lines", "all", taking)?.saved ?? Number.NaN;
    expect(plain).toBeGreaterThan(0.2);
    expect(row("oracle", "all", taking)?.saved).toBeGreaterThan(0.9);
    // The model has random weights: what is saved here, the file itself has said.
    expect(row("tidepool", "all", taking)?.saved).toBeGreaterThan(0.2);
    for (const language of ["Python", "TypeScript"])
      expect(row("tidepool", language, taking)?.characters).toBeGreaterThan(50);
  }
  expect(report.prompts.cachedShare).toBeGreaterThan(0.9);
  expect(report.prompts.freshP95).toBeLessThanOrEqual(96);
});

test("takes lines out of two files and reports how many come back", async () => {
  const args = ["--cases", "4", "--model", tinyModel, "--files", dir];
  const { code, stdout, stderr } = await bench("lines", "--json", ...args);
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  const { rows } = JSON.parse(stdout) as LineReport;
  expect(rows.map(({ language, kind, cases }) => `${language} ${kind} ${cases}`)).toEqual([
    "Python both 4",
    "TypeScript both 4",
    "all line 4",
    "all rest 4",
    "all both 8",
  ]);
  for (const { similarity } of rows) expect(similarity).toBeLessThan(0.9);
});

test.each([
  ["a missing folder", ["--files", "/nowhere/at/all"], 1, /expected a folder at \/nowhere/],
  ["no number of sessions", ["--sessions", "x"], 2, /--sessions, found x/],
  ["an unknown option", ["--speed"], 2, /unknown option/],
])("answers %s with one line and an exit code", async (_, args, code, line) => {
  const ended = await bench("fim", "--replay", ...args);
  expect(ended.code).toBe(code);
  expect(ended.stdout).toBe("");
  expect(ended.stderr).toMatch(line);
  expect(ended.stderr).toMatch(/^[^\n]+\n$/);
});
