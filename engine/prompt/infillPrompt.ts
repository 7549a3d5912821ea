/**
 * The infilling layout of docs/model.md, cut to fit the context:
 *
 *   BOS  (#path ⏎ text ⏎ ⏎)*  fim_begin fim_hole  SUFFIX  fim_end  #path ⏎  PREFIX
 *
 * Repository context goes first, then the far ends of suffix and prefix. The prefix starts at a stable anchor, a multiple
 * of 64 lines, so that the next keystroke's prompt begins with the same tokens and the prefix cache holds.
 */
import { EngineError } from "../base/errors.ts";
import type { ExtraChunk } from "../protocol/api.ts";
import type { FimTokens } from "./fimTokens.ts";

export interface InfillParts {
  prefix: string;
  suffix: string;
  filename: string | undefined;
  extra: readonly ExtraChunk[];
}

/** Line steps at which a cut prefix may start, the most stable first. */
const ANCHOR_LINES = [64, 8, 1];
/** No token of a code vocabulary covers more text than this on average: text beyond budget times this never counts. */
const MAX_CHARS_PER_TOKEN = 32;
/** Share of the room that the suffix keeps when both ends are too long. */
const SUFFIX_SHARE = 0.25;

/**
 * Tokens of the prompt, at most `budget`. `encode` tokenises plain text; every line is tokenised on its own, which gives
 * the same tokens since no word of the pre-tokenizer crosses a line break.
 * Throws `prompt_too_long` when not even the line of the cursor fits.
 */
export function buildInfillPrompt(
  parts: InfillParts,
  fim: FimTokens,
  encode: (text: string) => number[],
  budget: number,
): number[] {
  const header = parts.filename === undefined ? [] : encode(`#${parts.filename}\n`);
  const room = budget - header.length - 4;
  const prefix = lastLines(parts.prefix, encode, room);
  if (prefix.currentLine > room) {
    throw new EngineError(
      "prompt_too_long",
      `expected the line before the cursor to fit ${Math.max(0, room)} tokens, found ${prefix.currentLine}`,
    );
  }
  const suffix = firstLines(parts.suffix, encode, room);
  const suffixRoom =
    room -
    Math.min(prefix.total, Math.max(room - Math.floor(room * SUFFIX_SHARE), prefix.currentLine));
  const suffixTokens = suffix.take(Math.min(suffixRoom, room - prefix.currentLine));
  const prefixTokens = prefix.take(room - suffixTokens.length);
  const context = contextTokens(
    parts.extra,
    encode,
    room - suffixTokens.length - prefixTokens.length,
  );
  return [
    fim.bos,
    ...context,
    fim.begin,
    fim.hole,
    ...suffixTokens,
    fim.end,
    ...header,
    ...prefixTokens,
  ];
}

/** Leading chunks that fit: the order is the caller's, stable first, so what is kept stays at the front of the prompt. */
function contextTokens(
  extra: readonly ExtraChunk[],
  encode: (text: string) => number[],
  room: number,
): number[] {
  const tokens: number[] = [];
  for (const chunk of extra) {
    if (chunk.text.length > room * MAX_CHARS_PER_TOKEN) break;
    const ids = encode(`#${chunk.filename}\n${chunk.text}\n\n`);
    if (tokens.length + ids.length > room) break;
    for (const id of ids) tokens.push(id);
  }
  return tokens;
}

/** Lines with their line breaks; the last is what follows the last break, and may be empty. */
function splitLines(text: string): string[] {
  return text.split(/(?<=\n)/u);
}

/** The end of `text`, counted in tokens from the cursor backwards, as far as `room` could reach. */
function lastLines(text: string, encode: (text: string) => number[], room: number) {
  const cut = Math.max(0, text.length - Math.max(1, room) * MAX_CHARS_PER_TOKEN);
  const from = cut === 0 ? 0 : text.indexOf("\n", cut) + 1 || text.lastIndexOf("\n") + 1;
  const nSkipped = countLines(text, from);
  const lines = splitLines(text.slice(from));
  if (text.endsWith("\n")) lines.push("");
  const encoded: number[][] = [];
  let total = 0;
  for (let i = lines.length - 1; i >= 0 && total <= room; i--) {
    const ids = encode(lines[i] ?? "");
    encoded.unshift(ids);
    total += ids.length;
  }
  const firstLine = nSkipped + lines.length - encoded.length;
  const isWhole = firstLine === 0;
  return {
    /** Of the whole text, or more than `room` when that is known to be too much. */
    total: isWhole ? total : room + 1,
    currentLine: encoded.at(-1)?.length ?? 0,
    take(limit: number): number[] {
      if (isWhole && total <= limit) return encoded.flat();
      const start = anchoredStart(encoded, firstLine, limit);
      return encoded.slice(start).flat();
    },
  };
}

/** Index of the first line to keep: the earliest anchor from which everything fits; at worst the current line alone. */
function anchoredStart(encoded: readonly number[][], firstLine: number, limit: number): number {
  let fits = encoded.length;
  for (let total = 0; fits > 0; fits--) {
    total += encoded[fits - 1]?.length ?? 0;
    if (total > limit) break;
  }
  for (const step of ANCHOR_LINES) {
    const start = Math.ceil((firstLine + fits) / step) * step - firstLine;
    if (start < encoded.length) return start;
  }
  return encoded.length - 1;
}

/** The start of `text`, in whole lines when it must be cut. */
function firstLines(text: string, encode: (text: string) => number[], room: number) {
  const lines = splitLines(text.slice(0, Math.max(0, room) * MAX_CHARS_PER_TOKEN));
  return {
    take(limit: number): number[] {
      const tokens: number[] = [];
      for (const line of lines) {
        const ids = encode(line);
        if (tokens.length + ids.length > limit) break;
        for (const id of ids) tokens.push(id);
      }
      return tokens;
    },
  };
}

function countLines(text: string, end: number): number {
  let n = 0;
  for (let at = text.indexOf("\n"); at !== -1 && at < end; at = text.indexOf("\n", at + 1)) n++;
  return n;
}
