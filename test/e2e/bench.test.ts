/** `bench` and `doctor` of the built bundle, as a user runs them: few repetitions, a tiny model, and what is refused. */
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { BenchReport } from "../../engine/bench/report.ts";
import type { Check } from "../../engine/doctor/check.ts";
import { engineBundle, tinyModel } from "../support/engineBundle.ts";

interface Ended {
  code: number | null;
  stdout: string;
  stderr: string;
}

let dir: string;
let bundle: string;
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), "tidepool-bench-test-"));
  bundle = engineBundle();
});
afterAll(() => rmSync(dir, { recursive: true }));

function engine(...args: string[]): Promise<Ended> {
  const env = { ...process.env, TIDEPOOL_RUNTIME_DIR: dir };
  const child = spawn(process.execPath, [bundle, ...args], { env });
  const ended: Ended = { code: null, stdout: "", stderr: "" };
  for (const stream of ["stdout", "stderr"] as const)
    child[stream].setEncoding("utf8").on("data", (text: string) => {
      ended[stream] += text;
    });
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code) => resolve({ ...ended, code }));
  });
}

async function benchReport(name: string, ...more: string[]): Promise<BenchReport> {
  const args = ["bench", name, "--quick", "--json", "--threads", "1", "--model", tinyModel];
  const { code, stdout, stderr } = await engine(...args, ...more);
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  return JSON.parse(stdout) as BenchReport;
}

function damagedModel(): string {
  const path = join(dir, "damaged.gguf");
  const whole = readFileSync(tinyModel);
  writeFileSync(path, whole.subarray(0, Math.floor(whole.length / 2)));
  return path;
}

describe("bench", () => {
  test.each([
    ["decode", ["one token after 0", "daemon, whole, after 1000"]],
    ["prefill", ["256 tokens, scheduled", "2000 tokens, steps of 512"]],
    ["fim", ["16 tokens, in this process", "daemon, process start to ready"]],
  ])("%s reports finite times, rates and a profile that adds up", async (name, expected) => {
    const report = await benchReport(name);
    expect(report.rows.map((row) => row.name)).toEqual(expect.arrayContaining(expected));
    for (const row of report.rows) {
      expect(row.p50Ms).toBeGreaterThan(0);
      expect(row.p95Ms).toBeGreaterThanOrEqual(row.p50Ms);
      if (row.tokensPerS !== undefined) expect(row.tokensPerS).toBeGreaterThan(0);
    }
    expect(report.limits.cacheGbPerS).toBeGreaterThan(0);
    expect(report.limits.gflopPerS).toBeGreaterThan(0);
    expect(report.memory.benchRssBytes).toBeGreaterThan(1e6);
    const profile = report.profile;
    const inOps = (profile?.ops ?? []).reduce((sum, op) => sum + op.usPerStep, 0);
    expect(inOps).toBeGreaterThan(0);
    expect(inOps + (profile?.outsideUs ?? Number.NaN)).toBeCloseTo(profile?.stepUs ?? 0, 3);
  });

  test("fim finds all but the last typed tokens in the cache", async () => {
    const { facts } = await benchReport("fim");
    expect(facts["prompt tokens"]).toBeGreaterThan(500);
    expect(facts["fresh prompt tokens per keystroke, median"]).toBeLessThanOrEqual(8);
  });

  test("drafts compares the same answers with and without", async () => {
    const { rows, facts } = await benchReport("drafts");
    expect(rows.map((row) => row.name)).toContain("completion, drafts on, a token");
    expect(facts["completion: equal answers"]).toBe("1 of 1");
  });

  test("prints a table, with prompts from the given files", async () => {
    const source = join(dir, "source.py");
    writeFileSync(source, "def area(width, height):\n    return width * height\n");
    const args = ["bench", "prefill", "--quick", "--model", tinyModel, "--source", source];
    const { code, stdout } = await engine(...args);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^tidepool \S+ bench prefill\nmachine {2}/);
    expect(stdout).toMatch(/\nlinear +\d+ +\d/);
  });

  test.each([
    ["an unknown benchmark", ["bench", "speed"], 2, /'speed' is invalid/],
    [
      "weights of an unknown mix",
      ["bench", "fim", "--random-lite", "q3"],
      2,
      /q4_k_m, q8_0, fp8, bf16/,
    ],
    [
      "random weights on the CPU",
      ["bench", "fim", "--random-lite", "q8_0", "--device", "cpu"],
      1,
      /expected --device cuda with --random-lite, found cpu/,
    ],
    ["no benchmark", ["bench"], 2, /missing required argument 'what'/],
    ["no command", [], 2, /expected a command/],
    ["a wrong number of threads", ["doctor", "--threads", "x"], 2, /expected a whole number/],
    ["a missing model", ["bench", "fim", "--model", "/nowhere/m.gguf"], 1, /nowhere/],
    [
      "a missing source file",
      ["bench", "fim", "--source", "/nowhere/a.py", "--model", tinyModel],
      1,
      /cannot read --source/,
    ],
  ])("answers %s with one line and an exit code", async (_, args, code, line) => {
    const ended = await engine(...args);
    expect(ended.code).toBe(code);
    expect(ended.stdout).toBe("");
    expect(ended.stderr).toMatch(line);
    expect(ended.stderr).toMatch(/^[^\n]+\n$/);
  });
});

describe("doctor", () => {
  test("finds nothing wrong with a sound model and a private runtime folder", async () => {
    const { code, stdout } = await engine("doctor", "--model", tinyModel);
    expect(stdout).toMatch(/^ok +kernels .*; device auto: the CPU, because the model is small/m);
    expect(stdout).toMatch(/^ok +engine +version/);
    expect(stdout).not.toMatch(/^fail/m);
    expect(stdout).toMatch(/^ok +test completion +model loaded in \d+ ms/m);
    expect(code).toBe(0);
  });

  test("names a damaged model file, says what to do, and tries no completion", async () => {
    const { code, stdout } = await engine("doctor", "--json", "--model", damagedModel());
    const { ok, checks } = JSON.parse(stdout) as { ok: boolean; checks: Check[] };
    expect([code, ok]).toEqual([1, false]);
    const failed = checks.filter(({ state }) => state === "fail");
    expect(failed.map(({ name }) => name)).toEqual(["model file"]);
    expect(failed[0]?.found).toContain("damaged.gguf");
    expect(failed[0]?.advice).toContain("install Tidepool again");
    expect(checks.map(({ name }) => name)).not.toContain("test completion");
  });
});
