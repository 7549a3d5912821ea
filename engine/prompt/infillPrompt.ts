/**
 * Infilling prompts in the form that each model was trained on, cut to fit the context.
 *
 *   tidepool   BOS  (#path ⏎ text ⏎ ⏎)*  begin hole  SUFFIX  end  #path ⏎  PREFIX
 *   deepseek   BOS  (#path ⏎ text ⏎ ⏎)*  begin  #path ⏎  LINES  hole  SUFFIX  end  CURRENT LINE
 *   qwen       repo_name NAME ⏎  (file_sep path ⏎ text ⏎)*  file_sep path ⏎  begin  LINES  hole  SUFFIX  end  CURRENT LINE
 *
 * In the last two the hole begins at the start of the cursor's line, so a keystroke changes nothing but the tokens at the end.
 * Other files come first and stay where they are: their rows serve every request of the workspace. When the text does not
 * fit, other files go first, then the far ends of suffix and prefix; the prefix then starts at a multiple of 64 lines.
 */
import { EngineError } from "../base/errors.ts";
import type { ExtraChunk } from "../protocol/api.ts";
import type { FimTokens } from "./fimTokens.ts";
import { encodeParagraphs, LinesBefore, linesAfter, mayFit } from "./promptText.ts";

export interface InfillParts {
  prefix: string;
  suffix: string;
  filename: string | undefined;
  extra: readonly ExtraChunk[];
  /** The last word before the cursor is left out of the prompt; the generation begins with it instead. */
  heal?: boolean;
}

/** What a prompt is built with. */
export interface PromptEncoder {
  /** Tokens of plain text. */
  encode(text: string): readonly number[];
  /** The text after which the tokens of `line` may change when it goes on: its last word. */
  lastWord(line: string): string;
}

export interface InfillPrompt {
  tokens: number[];
  /** Leading tokens that other files take, the same for every place in the current file. */
  nContext: number;
  /** Text that stands before the cursor and not in `tokens`: the generation must begin with it. */
  forced: string;
}

/** Share of the room that the suffix keeps when both ends are too long. */
const SUFFIX_SHARE = 0.25;
/** A longer last word is no identifier but data, and stays in the prompt. */
const LONGEST_HEALED = 48;
/** Qwen saw a name here in training; what it says matters little, that it stays the same matters for the cache. */
const REPOSITORY_NAME = "workspace";

/** Prompt of at most `budget` tokens. Throws `prompt_too_long` when not even the line of the cursor fits. */
export function buildInfillPrompt(
  parts: InfillParts,
  fim: FimTokens,
  encoder: PromptEncoder,
  budget: number,
): InfillPrompt {
  const encode = (text: string) => encoder.encode(text);
  const before = new LinesBefore(parts.prefix, encode, budget);
  const header = headerTokens(parts.filename, fim, encode);
  const room = budget - header.length - 4;
  if (before.currentCount > room) {
    throw new EngineError(
      "prompt_too_long",
      `expected the line before the cursor to fit ${Math.max(0, room)} tokens, found ${before.currentCount}`,
    );
  }
  const prefixRoom = Math.max(room - Math.floor(room * SUFFIX_SHARE), before.currentCount);
  const suffixRoom = Math.min(
    room - Math.min(before.total, prefixRoom),
    room - before.currentCount,
  );
  const suffix = encodeParagraphs(linesAfter(parts.suffix, encode, suffixRoom), encode);
  const { above, current } = before.take(room - suffix.length);
  const prefix = encodeParagraphs(above, encode);
  const { kept, forced } = healed(current, parts.heal ?? false, encoder);
  const line = encode(kept);
  const left = room - suffix.length - prefix.length - before.currentCount;
  const context = contextTokens(parts.extra, fim, encode, left);
  const nContext = context.length + Number(fim.bos !== undefined);
  return { tokens: ordered(fim, { context, header, prefix, suffix, line }), nContext, forced };
}

interface Sections {
  context: readonly number[];
  header: readonly number[];
  /** Lines above the cursor's. */
  prefix: readonly number[];
  suffix: readonly number[];
  /** The cursor's line up to the cursor. */
  line: readonly number[];
}

function ordered(fim: FimTokens, { context, header, prefix, suffix, line }: Sections): number[] {
  const { begin, hole, end } = fim;
  const bos = fim.bos === undefined ? [] : [fim.bos];
  switch (fim.layout) {
    case "tidepool":
      return [...bos, ...context, begin, hole, ...suffix, end, ...header, ...prefix, ...line];
    case "deepseek":
      return [...bos, ...context, begin, ...header, ...prefix, hole, ...suffix, end, ...line];
    case "qwen":
      return [...context, ...header, begin, ...prefix, hole, ...suffix, end, ...line];
  }
}

/** The current file's path, as the layout writes it before the file's text. */
function headerTokens(
  filename: string | undefined,
  fim: FimTokens,
  encode: PromptEncoder["encode"],
): readonly number[] {
  if (filename === undefined) return [];
  if (fim.repository === undefined) return encode(`#${filename}\n`);
  return [fim.repository.file, ...encode(`${filename}\n`)];
}

/** Leading chunks that fit: the order is the caller's, stable first, so what is kept stays at the front of the prompt. */
function contextTokens(
  extra: readonly ExtraChunk[],
  fim: FimTokens,
  encode: PromptEncoder["encode"],
  room: number,
): number[] {
  const tokens = repositoryHead(extra, fim, encode);
  for (const { filename, text } of extra) {
    if (!mayFit(text, room)) break;
    const ids =
      fim.repository === undefined
        ? encodeParagraphs(`#${filename}\n${text}\n\n`, encode)
        : [fim.repository.file, ...encodeParagraphs(`${filename}\n${text}\n`, encode)];
    if (tokens.length + ids.length > room) break;
    for (const id of ids) tokens.push(id);
  }
  return tokens.length > room ? [] : tokens;
}

/** Qwen's first line, which it knows only before other files. */
function repositoryHead(
  extra: readonly ExtraChunk[],
  { repository }: FimTokens,
  encode: PromptEncoder["encode"],
): number[] {
  if (repository === undefined || extra.length === 0) return [];
  return [repository.name, ...encode(`${REPOSITORY_NAME}\n`)];
}

/** Splits the cursor's line into what stays in the prompt and what the generation must begin with. */
function healed(line: string, wanted: boolean, encoder: PromptEncoder) {
  const word = wanted ? encoder.lastWord(line) : "";
  const forced = word.length > LONGEST_HEALED ? "" : word;
  return { kept: line.slice(0, line.length - forced.length), forced };
}
