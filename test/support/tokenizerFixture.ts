/**
 * Vocabularies cut down to what their test cases can reach: all bytes, and every merge whose result occurs in a case.
 * Ids, ranks and expected tokens are those of the full vocabulary (llama.cpp's test vectors).
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { type WriterValue, writeGguf } from "./ggufWriter.ts";

interface TokenizerFixture {
  pre: string;
  size: number;
  tokens: Record<string, number>;
  special: Record<string, number>;
  merges: string[];
  cases: [string, number[]][];
}

/** Writes the vocabulary of `name`, with `added` special tokens, as a GGUF file into `folder`; returns its path and the cases. */
export function writeTokenizerFixture(
  folder: string,
  name: string,
  added: Record<string, number> = {},
) {
  const path = join(import.meta.dirname, "..", "fixtures", "tokenizers", `${name}.json`);
  const fixture = JSON.parse(readFileSync(path, "utf8")) as TokenizerFixture;
  const size = Math.max(fixture.size, ...Object.values(added).map((id) => id + 1));
  const tokens = Array.from({ length: size }, (_, id) => `[unused ${id}]`);
  const types = tokens.map(() => 3);
  for (const [token, id] of Object.entries({ ...fixture.special, ...added })) tokens[id] = token;
  for (const [token, id] of Object.entries(fixture.tokens)) {
    tokens[id] = token;
    types[id] = 1;
  }
  const metadata: Record<string, WriterValue> = {
    "tokenizer.ggml.model": { string: "gpt2" },
    "tokenizer.ggml.pre": { string: fixture.pre },
    "tokenizer.ggml.tokens": { strings: tokens },
    "tokenizer.ggml.token_type": { i32s: types },
    "tokenizer.ggml.merges": { strings: fixture.merges },
  };
  const file = join(folder, `${name}.gguf`);
  writeGguf(file, metadata, []);
  return { file, cases: fixture.cases };
}
