/** Texts that drafts are measured on: an edit that copies what stands above it, and a place in source text. */
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import type { SourceText } from "./sourceText.ts";

/** Where texts come from, and what they are counted in. */
export interface TextSource {
  tokenizer: Tokenizer;
  source: SourceText;
}

export interface EditText {
  /** Source text, then the first of its last lines again, with another name for the word that they use most. */
  prompt: string;
  /** How the edit goes on, if everything but that name is copied. */
  answer: string;
}

export interface PlaceText {
  prefix: string;
  /** What stands there in the source text. */
  answer: string;
  suffix: string;
}

const EDITED_LINES = 40;
const BEGUN_LINES = 6;

/** Exactly `n` tokens of version `index` of the source text. */
export function sourceTokens(
  { tokenizer, source }: TextSource,
  n: number,
  index: number,
): number[] {
  let tokens: number[] = [];
  for (let nChars = n * 4; tokens.length < n; nChars *= 2)
    tokens = tokenizer.encode(source.version(index, nChars));
  return tokens.slice(0, n);
}

/** An edit behind `nTokens` tokens of source text. */
export function editText(from: TextSource, nTokens: number, index: number): EditText {
  const text = from.tokenizer.decode(sourceTokens(from, nTokens, index));
  const lines = text.split("\n").slice(-EDITED_LINES - 1, -1);
  const word = commonWord(lines.join("\n"));
  const edited = lines.map((line) => line.replaceAll(word, `other${word}`));
  const head = `${text}\n\n// As before, with other${word} for ${word}.\n`;
  return {
    prompt: `${head}${edited.slice(0, BEGUN_LINES).join("\n")}\n`,
    answer: `${edited.slice(BEGUN_LINES).join("\n")}\n`,
  };
}

/** A place of `nAnswer` tokens, with `nTokens` tokens around it, three quarters of them before it. */
export function placeText(
  from: TextSource,
  nTokens: number,
  nAnswer: number,
  index: number,
): PlaceText {
  const tokens = sourceTokens(from, nTokens + nAnswer, index);
  const nPrefix = Math.floor(0.75 * nTokens);
  const text = (begin: number, end: number) => from.tokenizer.decode(tokens.slice(begin, end));
  return {
    prefix: text(0, nPrefix),
    answer: text(nPrefix, nPrefix + nAnswer),
    suffix: text(nPrefix + nAnswer, tokens.length),
  };
}

function commonWord(text: string): string {
  const counts = new Map<string, number>();
  for (const [word] of text.matchAll(/[A-Za-z]{5,}/g))
    counts.set(word, (counts.get(word) ?? 0) + 1);
  return [...counts].sort((a, b) => b[1] - a[1])[0]?.[0] ?? "value";
}
