import type { Filter } from "./filter.ts";

/** A piece of three or more characters, five times or more in a row. */
const STUTTER = /(.{3,60}?)\1{4,}/s;
/** Rules of dashes and the like are written in comments. */
const RULE = /^(\S)\1*$/;
const LONGEST_RULE = 100;
/** Blocks of up to this many lines are looked for twice or more in a row. */
const LONGEST_BLOCK = 4;
/** Shorter lines, such as closing brackets, repeat in good code too. */
const SHORTEST_LINE = 4;

/** Ends the text where the model begins to say the same again. */
export const repetition: Filter = (text) => {
  const stutter = STUTTER.exec(text);
  const once =
    stutter?.[1] !== undefined && /\S/.test(stutter[1]) && !isRule(stutter[0])
      ? text.slice(0, stutter.index + stutter[1].length)
      : text;
  const lines = once.split("\n");
  for (let length = 1; length <= LONGEST_BLOCK; length++) {
    const times = length === 1 ? 3 : 2;
    const at = repeatedBlock(lines, length, times);
    if (at !== undefined) return lines.slice(0, at + length).join("\n");
  }
  return once;
};

function isRule(text: string): boolean {
  return text.length <= LONGEST_RULE && RULE.test(text);
}

/** First line of a block of `length` lines that stands `times` times in a row. */
function repeatedBlock(
  lines: readonly string[],
  length: number,
  times: number,
): number | undefined {
  for (let at = 0; at + length * times <= lines.length; at++) {
    const block = lines.slice(at, at + length);
    if (!block.every((line) => line.trim().length >= SHORTEST_LINE)) continue;
    let matches = 1;
    while (
      matches < times &&
      equals(block, lines.slice(at + matches * length, at + (matches + 1) * length))
    )
      matches++;
    if (matches === times) return at;
  }
  return undefined;
}

function equals(a: readonly string[], b: readonly string[]): boolean {
  return a.every((line, i) => line.trim() === b[i]?.trim());
}
