import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { collectSessions } from "./sessions.ts";

const folder = mkdtempSync(join(tmpdir(), "tidepool-sessions-"));
afterAll(() => rmSync(folder, { recursive: true }));

function write(name: string, line: (i: number) => string, count = 120): void {
  const file = join(folder, name);
  mkdirSync(join(file, ".."), { recursive: true });
  writeFileSync(file, Array.from({ length: count }, (_, i) => `${line(i)}\n`).join(""));
}
write("a/one.py", (i) => `value_${i} = compute(${i}, other)`);
write("two.ts", (i) => `export const value${i} = compute(${i});`);
write("min.js", () => "x".repeat(400));
write("short.py", (i) => `v${i} = 1 # ${"y".repeat(80)}`, 20);
write("dist/built.ts", (i) => `const built${i} = compute(${i}, other);`);
write("notes.txt", (i) => `line ${i} of some notes that nobody types`);

const options = { folders: [folder], count: 10, length: 100, seed: 4 };

test("cuts typing out of the middle of source files, and leaves the rest as it was", () => {
  const sessions = collectSessions(options);
  expect(sessions.map(({ filename }) => filename).sort()).toEqual(["a/one.py", "two.ts"]);
  for (const { before, typed, after, language } of sessions) {
    expect(before.endsWith("\n")).toBe(true);
    expect(after.startsWith("\n")).toBe(true);
    expect(typed.length).toBeGreaterThanOrEqual(99);
    expect((before + typed + after).split("\n")).toHaveLength(121);
    expect(["Python", "TypeScript"]).toContain(language);
  }
});

test("the same seed gives the same sessions, another one others", () => {
  expect(collectSessions(options)).toEqual(collectSessions(options));
  expect(collectSessions({ ...options, seed: 5 })).not.toEqual(collectSessions(options));
});

test("a folder without source files is refused in one line", () => {
  const empty = join(folder, "empty");
  mkdirSync(empty);
  expect(() => collectSessions({ ...options, folders: [empty] })).toThrow(
    /^expected source files in .*, found none to type$/,
  );
});
