/** Text around the cursor as lines of tokens, cut at stable places when it does not fit. */

/** Line steps at which a cut prefix may start, the most stable first. */
const ANCHOR_LINES = [64, 8, 1];
/** No token of a code vocabulary covers more text than this on average: text beyond budget times this never counts. */
const MAX_CHARS_PER_TOKEN = 32;

export type Encode = (text: string) => readonly number[];

/** Lines before the cursor, counted in tokens from the cursor backwards as far as `room` could reach. */
export class LinesBefore {
  /** Tokens of the whole text, or more than the room when that is known to be too much. */
  readonly total: number;
  private readonly lines: readonly string[];
  private readonly counts: readonly number[];
  /** Line number of the first of `lines`. */
  private readonly firstLine: number;

  constructor(text: string, encode: Encode, room: number) {
    const cut = Math.max(0, text.length - Math.max(1, room) * MAX_CHARS_PER_TOKEN);
    const from = cut === 0 ? 0 : text.indexOf("\n", cut) + 1 || text.lastIndexOf("\n") + 1;
    const all = splitLines(text.slice(from));
    if (text.endsWith("\n")) all.push("");
    let start = all.length;
    let total = 0;
    const counts: number[] = [];
    while (start > 0 && total <= room) {
      const count = encode(all[--start] ?? "").length;
      counts.push(count);
      total += count;
    }
    this.lines = all.slice(start);
    this.counts = counts.reverse();
    this.firstLine = countLines(text, from) + start;
    this.total = this.firstLine === 0 ? total : room + 1;
  }

  /** Tokens of the line that the cursor stands on. */
  get currentCount(): number {
    return this.counts.at(-1) ?? 0;
  }

  /** The text that is kept within `limit` tokens: whole lines before the current one, and the current one. */
  take(limit: number): { above: string; current: string } {
    const start = this.firstLine === 0 && this.total <= limit ? 0 : this.anchoredStart(limit);
    return {
      above: this.lines.slice(start, -1).join(""),
      current: this.lines.at(-1) ?? "",
    };
  }

  /** Index of the first line to keep: the earliest anchor from which everything fits; at worst the current line alone. */
  private anchoredStart(limit: number): number {
    const { counts, firstLine } = this;
    let fits = counts.length;
    for (let total = 0; fits > 0; fits--) {
      total += counts[fits - 1] ?? 0;
      if (total > limit) break;
    }
    for (const step of ANCHOR_LINES) {
      const start = Math.ceil((firstLine + fits) / step) * step - firstLine;
      if (start < counts.length) return start;
    }
    return counts.length - 1;
  }
}

/** The start of `text` within `limit` tokens, in whole lines when it must be cut. */
export function linesAfter(text: string, encode: Encode, limit: number): string {
  let left = limit;
  let end = 0;
  for (const line of splitLines(text.slice(0, Math.max(0, limit) * MAX_CHARS_PER_TOKEN))) {
    left -= encode(line).length;
    if (left < 0) break;
    end += line.length;
  }
  return text.slice(0, end);
}

/** Whether so much text can fit at all; asked before it is tokenised. */
export function mayFit(text: string, room: number): boolean {
  return text.length <= room * MAX_CHARS_PER_TOKEN;
}

/**
 * Tokens of a text of many lines, from a cache of its paragraphs: between keystrokes all but one are the same.
 * A paragraph is a line with the blank lines that follow it, since Qwen's words cross line breaks into these and no others.
 */
export function encodeParagraphs(text: string, encode: Encode): number[] {
  const tokens: number[] = [];
  for (const part of text.split(/(?<=\n)(?![^\S\n]*(?:\n|$))/u)) {
    if (part !== "") for (const id of encode(part)) tokens.push(id);
  }
  return tokens;
}

/** Lines with their line breaks. */
function splitLines(text: string): string[] {
  return text === "" ? [""] : text.split(/(?<=\n)/u);
}

function countLines(text: string, end: number): number {
  let n = 0;
  for (let at = text.indexOf("\n"); at !== -1 && at < end; at = text.indexOf("\n", at + 1)) n++;
  return n;
}
