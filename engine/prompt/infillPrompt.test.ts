import { expect, test } from "vitest";
import { EngineError } from "../base/errors.ts";
import type { FimTokens } from "./fimTokens.ts";
import { buildInfillPrompt, type InfillParts } from "./infillPrompt.ts";

const fim: FimTokens = {
  layout: "tidepool",
  bos: 0,
  ends: new Set([1]),
  begin: 2,
  hole: 3,
  end: 4,
};
const names = ["<bos>", "<eos>", "<begin>", "<hole>", "<end>"];
/** One token per character. */
const encode = (text: string) => Array.from(text, (char) => (char.codePointAt(0) ?? 0) + 100);

function build(parts: Partial<InfillParts>, budget: number): string {
  const { tokens } = buildInfillPrompt(
    { prefix: "", suffix: "", filename: undefined, extra: [], ...parts },
    fim,
    { encode, lastWord: (line) => /\w+$/.exec(line)?.[0] ?? "" },
    budget,
  );
  expect(tokens.length).toBeLessThanOrEqual(budget);
  return tokens.map((id) => names[id] ?? String.fromCodePoint(id - 100)).join("");
}

const extra = [
  { filename: "a.py", text: "A" },
  { filename: "b.py", text: "BB" },
];
const lines = (n: number, from = 0) =>
  Array.from({ length: n }, (_, i) => `line ${from + i}\n`).join("");

test("everything fits: context, suffix, header, prefix", () => {
  expect(build({ prefix: "def f(", suffix: "):\n  pass\n", filename: "m.py", extra }, 100)).toBe(
    "<bos>#a.py\nA\n\n#b.py\nBB\n\n<begin><hole>):\n  pass\n<end>#m.py\ndef f(",
  );
});

test("nothing but a cursor", () => {
  expect(build({}, 10)).toBe("<bos><begin><hole><end>");
});

test("context goes first, the last chunk before the first", () => {
  expect(build({ prefix: "xyz", extra }, 17)).toBe("<bos>#a.py\nA\n\n<begin><hole><end>xyz");
  expect(build({ prefix: "xyz", extra }, 10)).toBe("<bos><begin><hole><end>xyz");
});

test("a long suffix is cut at a line end", () => {
  expect(build({ prefix: "x", suffix: "one\ntwo\nthree\n" }, 14)).toBe(
    "<bos><begin><hole>one\ntwo\n<end>x",
  );
});

test("a long prefix starts at a multiple of 64 lines", () => {
  const prompt = build({ prefix: lines(200), filename: "m" }, 1000);
  expect(prompt.startsWith("<bos><begin><hole><end>#m\nline 128\n")).toBe(true);
  expect(prompt.endsWith("line 199\n")).toBe(true);
});

test("typing in a long file keeps the start of the prompt", () => {
  const starts = new Set<string>();
  for (let n = 180; n < 200; n++) starts.add(build({ prefix: lines(n) }, 1000).slice(0, 40));
  expect(starts.size).toBe(1);
});

test("when both ends are long, the prefix keeps most of the room and the suffix a quarter", () => {
  const prompt = build({ prefix: lines(500), suffix: lines(500, 500) }, 2000);
  const [suffix = "", prefix = ""] = prompt.slice("<bos><begin><hole>".length).split("<end>");
  expect(suffix.length).toBeGreaterThan(450);
  expect(suffix.startsWith("line 500\n")).toBe(true);
  expect(prefix.length).toBeGreaterThan(900);
  expect(prefix.endsWith("line 499\n")).toBe(true);
});

test("a long line in the way leaves the current line", () => {
  expect(build({ prefix: `${"y".repeat(300)}\nabc` }, 20)).toBe("<bos><begin><hole><end>abc");
  expect(build({ prefix: `${"y".repeat(30)}\n`, suffix: "z" }, 20)).toBe(
    "<bos><begin><hole>z<end>",
  );
});

test("only a current line that does not fit is refused", () => {
  try {
    build({ prefix: `a\n${"x".repeat(50)}` }, 20);
  } catch (error) {
    expect(EngineError.is(error, "prompt_too_long")).toBe(true);
    expect(String(error)).toContain("to fit 16 tokens, found 50");
    return;
  }
  expect.unreachable("the prompt was accepted");
});

test("a huge document is cut before it is tokenised", () => {
  const start = performance.now();
  build({ prefix: lines(1_000_000), suffix: lines(1_000_000) }, 1000);
  expect(performance.now() - start).toBeLessThan(2000);
});
