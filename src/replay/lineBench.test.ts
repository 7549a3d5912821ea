import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeEach, expect, test } from "vitest";
import { EngineConnection } from "../engineClient/connection.ts";
import { FakeEngine, failure } from "../engineClient/fakeEngine.ts";
import { formatLines, judge, measureLines } from "./lineBench.ts";
import { collectLines } from "./lineCases.ts";

const folder = mkdtempSync(join(tmpdir(), "tidepool-lines-"));
afterAll(() => rmSync(folder, { recursive: true }));

function write(name: string, line: (i: number) => string): void {
  const lines = Array.from({ length: 80 }, (_, i) => `${line(i)}\n${i % 3 === 0 ? "}\n" : ""}`);
  writeFileSync(join(folder, name), lines.join(""));
}
write("one.py", (i) => `    value_${i} = compute(${i}, other)`);
write("two.ts", (i) => `  export const value${i} = compute(${i});`);
writeFileSync(join(folder, "brackets.go"), "}\n".repeat(900));

const options = { folders: [folder], perLanguage: 12, seed: 4 };
let engine: FakeEngine;
let connection: EngineConnection;

beforeEach(async () => {
  engine = await FakeEngine.start();
  connection = new EngineConnection(engine.socket);
});

afterEach(async () => {
  connection.dispose();
  await engine.stop();
});

test("takes lines of code out of files, whole and in part, and leaves the rest as it was", () => {
  const cases = collectLines(options);
  expect(cases.map(({ kind }) => kind)).toEqual(Array(12).fill(["line", "rest"]).flat());
  for (const { language, kind, filename, before, line, after } of cases) {
    expect(before + line + after).toBe(readFileSync(join(folder, filename), "utf8"));
    expect(after.startsWith("\n")).toBe(true);
    expect(line).toMatch(/^\S?[^\n]{5,}$/);
    const column = before.length - before.lastIndexOf("\n") - 1;
    const indent = language === "Python" ? 4 : 2;
    if (kind === "line") expect(column).toBe(indent);
    else expect(column).toBeGreaterThan(indent);
  }
});

test("the same seed takes the same lines, another one others", () => {
  expect(collectLines(options)).toEqual(collectLines(options));
  expect(collectLines({ ...options, seed: 5 })).not.toEqual(collectLines(options));
});

test("says which folders hold no lines of code", () => {
  const empty = mkdtempSync(join(tmpdir(), "tidepool-lines-"));
  expect(() => collectLines({ ...options, folders: [empty] })).toThrow(`source files in ${empty}`);
  rmSync(empty, { recursive: true });
});

test.each([
  ["total += 1;", "total += 1;", true, 1],
  ["total += 1;  ", "total += 1;", true, 1],
  [" total += 1;", "total += 1;", false, 11 / 12],
  ["", "abcd", false, 0],
])("compares %j with %j", (said, line, exact, similarity) => {
  expect(judge(said, line)).toEqual({ exact, similarity });
});

test("counts each language, each kind and all, asking greedily with the file alone", async () => {
  const cases = collectLines(options);
  engine.script = ({ input_prefix, filename }) => {
    const one = cases.find(({ before }) => before.endsWith(input_prefix));
    return { pieces: [filename === "two.ts" && one ? one.line : "no such line"] };
  };
  const rows = await measureLines(cases, connection, () => undefined);
  const exactOf = Object.fromEntries(rows.map((r) => [`${r.language} ${r.kind}`, r.exact]));
  expect(exactOf).toEqual({
    "Python both": 0,
    "TypeScript both": 1,
    "all line": 0.5,
    "all rest": 0.5,
    "all both": 0.5,
  });
  for (const request of engine.requests)
    expect(request).toMatchObject({ input_extra: [], temperature: 0, stop: ["\n"] });
  const report = { bench: "lines" as const, version: "1", model: "m", device: "d", folders: ["f"] };
  expect(formatLines({ ...report, seed: 1, rows })).toMatch(/TypeScript +both +12 +100.0 % +1.000/);
});

test("ends with the engine's own words when a request fails", async () => {
  engine.script = () => failure("overloaded", "too many requests");
  await expect(measureLines(collectLines(options), connection, () => undefined)).rejects.toThrow(
    "the engine could not answer",
  );
});
