import { expect, test } from "vitest";
import { pack } from "./pack.ts";
import type { Candidate } from "./ranking/candidates.ts";
import { type IndexedFile, RepositoryIndex } from "./repositoryIndex.ts";

function fileOf(path: string, lines: readonly string[]): IndexedFile {
  const index = new RepositoryIndex();
  const definitions = lines.map((text, line) => {
    const name = /\w+(?=\()/.exec(text)?.[0] ?? "";
    const at = { line, signatureEnd: line, endLine: line, docLine: line };
    return { name, kind: "function" as const, container: "", ...at };
  });
  index.update({ path, text: lines.join("\n"), changedMs: 0, definitions });
  const file = index.files.get(path);
  if (!file) throw new Error(`expected ${path} in the index, found nothing`);
  return file;
}

function candidatesOf(file: IndexedFile, probabilities: readonly number[]): Candidate[] {
  return file.definitions.map((definition, i) => ({
    definition,
    probability: probabilities[i] ?? 0,
    reason: "nextName",
  }));
}

const taken = (candidates: readonly Candidate[], budget: number) =>
  pack(candidates, budget).map(({ file, lines }) => `${file.path}:${lines.map((l) => l.line)}`);

test("takes the lines of most use for a byte, in the order of the file", () => {
  const file = fileOf("a.ts", ["function rare()", "function often()", "function sure()"]);
  expect(taken(candidatesOf(file, [0.01, 0.3, 0.9]), 44)).toEqual(["a.ts:1,2"]);
});

test("pays for a header only where the lines behind it are worth it together", () => {
  const long = fileOf("a/very/long/path/that/costs/as/much/as/lines.ts", ["function one()"]);
  const many = fileOf("b.ts", ["function two()", "function three()", "function four()"]);
  const candidates = [...candidatesOf(long, [0.4]), ...candidatesOf(many, [0.3, 0.3, 0.3])];
  expect(taken(candidates, 64)).toEqual(["b.ts:0,1,2"]);
});

test("adds up what one line defines", () => {
  const file = fileOf("a.ts", ["function one()", "function pair()"]);
  const [one, pair] = candidatesOf(file, [0.5, 0.3]);
  expect(one && pair && taken([one, pair, pair], 30)).toEqual(["a.ts:1"]);
});

test("holds nothing when the budget holds no header", () => {
  expect(taken(candidatesOf(fileOf("a.ts", ["function one()"]), [1]), 10)).toEqual([]);
});
