import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { writeGguf } from "../../test/support/ggufWriter.ts";
import { specialTokens, tinyVocabulary } from "../../test/support/tinyVocabulary.ts";
import { writeTokenizerFixture } from "../../test/support/tokenizerFixture.ts";
import { readGguf } from "../loader/gguf.ts";
import { preTokenizerNames, pretokenize } from "./pretokenize.ts";
import { StreamDecoder, Tokenizer } from "./tokenizer.ts";

const folder = mkdtempSync(join(tmpdir(), "tidepool-tokenizer-"));
afterAll(() => rmSync(folder, { recursive: true }));

describe.each(["deepseek-llm", "deepseek-coder", "qwen2"])("vocabulary %s", (name) => {
  const { file, cases } = writeTokenizerFixture(folder, name);
  const tokenizer = new Tokenizer(readGguf(file));
  test.each(cases)("tokenises %j as llama.cpp does", (text, expected) => {
    expect(tokenizer.encode(text)).toEqual(expected);
    expect(tokenizer.decode(expected)).toBe(text);
  });
});

function tiny(): Tokenizer {
  const path = join(folder, "tiny.gguf");
  writeGguf(path, tinyVocabulary().metadata, []);
  return new Tokenizer(readGguf(path));
}

const tricky = [
  "x = 1\r\n\tif (a==b) return é;   \n\n",
  "emoji 👩‍👩‍👧 and \u0085 and \uFEFF and \u0000",
  specialTokens.join(" "),
  "漢字かな交じり文 कखग",
  " ",
  "",
];

test.each(tricky)("text %j survives the way there and back", (text) => {
  const tokenizer = tiny();
  expect(tokenizer.decode(tokenizer.encode(text))).toBe(text);
  for (const name of preTokenizerNames) expect(pretokenize(text, name).join("")).toBe(text);
});

test("the tidepool expression cuts words, digits and line breaks as the specification says", () => {
  expect(pretokenize("  foo(12) =\n\n\tbar.baz  \n", "tidepool")).toEqual([
    " ",
    " foo",
    "(",
    "1",
    "2",
    ")",
    " =",
    "\n",
    "\n",
    "\tbar",
    ".baz",
    "  ",
    "\n",
  ]);
});

test("special tokens in user text are plain text", () => {
  const tokenizer = tiny();
  for (const [id, text] of specialTokens.entries()) {
    expect(tokenizer.specialId(text)).toBe(id);
    expect(tokenizer.encode(text)).not.toContain(id);
  }
});

test("a lone surrogate becomes U+FFFD", () => {
  const tokenizer = tiny();
  expect(tokenizer.decode(tokenizer.encode("a\ud800b"))).toBe("a\ufffdb");
});

test("a stream never holds half a character", () => {
  const tokenizer = tiny();
  const text = "naïve 👩‍👧 ü";
  const decoder = new StreamDecoder(tokenizer);
  const parts = tokenizer.encode(text).map((id) => decoder.push(id));
  expect(parts.join("") + decoder.end()).toBe(text);
  expect(parts.some((part) => part.includes("\ufffd"))).toBe(false);
});

test("an unfinished character at the end becomes U+FFFD", () => {
  const tokenizer = tiny();
  const decoder = new StreamDecoder(tokenizer);
  const [first] = tokenizer.encode("ü");
  expect(decoder.push(first ?? -1)).toBe("");
  expect(decoder.end()).toBe("\ufffd");
});

test("4000 tokens of source take at most 10 ms when the words are known", () => {
  const tokenizer = tiny();
  const source = readFileSync(join(import.meta.dirname, "tokenizer.ts"), "utf8").slice(0, 5000);
  expect(tokenizer.encode(source).length).toBeGreaterThan(2000);
  const times = Array.from({ length: 20 }, () => {
    const start = performance.now();
    const n = tokenizer.encode(source).length;
    return ((performance.now() - start) * 4000) / n;
  });
  expect(Math.min(...times)).toBeLessThan(10);
});

test("a word of a megabyte is merged in time", () => {
  const start = performance.now();
  expect(tiny().encode("self".repeat(250_000)).length).toBe(250_000);
  expect(performance.now() - start).toBeLessThan(10_000);
});

test.each([
  [
    "tokenizer.ggml.pre",
    { string: "martian" },
    /tokenizer\.ggml\.pre to be tidepool or .* found martian/,
  ],
  ["tokenizer.ggml.model", { string: "llama" }, /to be gpt2, found llama/],
  ["tokenizer.ggml.tokens", { u32: 3 }, /to be an array of strings, found 3/],
  ["tokenizer.ggml.merges", { strings: ["q zz"] }, /merges between known tokens, found "q zz"/],
  ["tokenizer.ggml.token_type", { i32s: [1] }, /entries in tokenizer\.ggml\.token_type, found 1/],
])("refuses a file whose %s does not fit", (key, value, expected) => {
  const path = join(folder, "bad.gguf");
  writeGguf(path, { ...tinyVocabulary().metadata, [key]: value }, []);
  expect(() => new Tokenizer(readGguf(path))).toThrow(expected);
});
