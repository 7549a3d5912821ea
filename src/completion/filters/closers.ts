// Brackets and quotes after the cursor, which editors insert by themselves, must not stand there twice.
import type { FilterSite } from "./filter.ts";

export interface Fitted {
  text: string;
  /** UTF-16 units after the cursor that `text` takes the place of. */
  replaceLength: number;
}

const PAIRS: Record<string, string> = { ")": "(", "]": "[", "}": "{", ">": "<" };
const OPENERS = new Set(Object.values(PAIRS));
/** What ends a text that stands before it. */
const ENDS = /^[)\]}>"'`;,:]/;
const QUOTES = new Set(['"', "'", "`"]);

/**
 * Fits the text to what follows on the cursor's line.
 * A closer that the text only repeats is cut off. When the text goes on beyond it, as in `x > 0) {` before `)`,
 * it takes the place of the rest of the line, which it contains.
 */
export function fitClosers(text: string, { site }: FilterSite): Fitted {
  const after = site.lineAfter.trimEnd();
  if (after === "" || text.includes("\n")) return { text, replaceLength: 0 };
  if (!isCloser(after) && text.endsWith(after)) {
    return { text: text.slice(0, -after.length), replaceLength: 0 };
  }
  const closing = ENDS.test(after) ? closesAt(text, after) : undefined;
  if (closing === undefined) return { text, replaceLength: 0 };
  const beyond = text.slice(closing).trimEnd();
  if (beyond.length > after.length && isSubsequence(after, beyond)) {
    return { text, replaceLength: site.lineAfter.length };
  }
  return { text: text.slice(0, closing), replaceLength: 0 };
}

/** Where `text` closes, with what `after` begins with, what was opened before it; undefined when it does not. */
function closesAt(text: string, after: string): number | undefined {
  const closer = after.charAt(0);
  if (QUOTES.has(closer)) {
    const isTriple = after.startsWith(closer.repeat(3));
    return unescaped(text, isTriple ? closer.repeat(3) : closer);
  }
  let depth = 0;
  for (let i = 0; i < text.length; i++) {
    const char = text.charAt(i);
    // Brackets inside of a string close nothing.
    if (QUOTES.has(char)) i += stringLength(text.slice(i + 1), char);
    if (char === ">" && /[=-]/.test(text.charAt(i - 1))) continue;
    if (char === closer && depth === 0) return i;
    if (OPENERS.has(char) && char === PAIRS[closer]) depth++;
    else if (char === closer) depth--;
  }
  return undefined;
}

function unescaped(text: string, quote: string): number | undefined {
  for (let i = 0; i < text.length; i++) {
    if (text.charAt(i) === "\\") i++;
    else if (text.startsWith(quote, i)) return i;
  }
  return undefined;
}

/** Units up to and with the closing quote; 0 for a quote that stands alone, as in a lifetime or a comment. */
function stringLength(rest: string, quote: string): number {
  const end = unescaped(rest, quote);
  return end === undefined ? 0 : end + 1;
}

function isCloser(text: string): boolean {
  const first = text.charAt(0);
  return first in PAIRS || QUOTES.has(first);
}

function isSubsequence(part: string, whole: string): boolean {
  let at = 0;
  for (const char of whole) if (char === part.charAt(at)) at++;
  return at >= part.length;
}
