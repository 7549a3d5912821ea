// The part of a document that is parsed at a keystroke. It depends on the site alone, so that every program that asks
// about a place gets the same answer, whatever was asked before.
import type { CursorSite } from "../completion/documentSnapshot.ts";

/** UTF-16 units: about 600 lines before the cursor and 150 behind it. */
const HEAD_UNITS = 20_000;
const TAIL_UNITS = 5_000;

/** What is parsed: text before the cursor and behind it, LF line ends. */
export interface SyntaxWindow {
  /** By its extension the language is known. */
  filename: string;
  head: string;
  tail: string;
  /** Whether the document goes on behind `tail`. */
  tailIsCut: boolean;
}

/** The window around a cursor. */
export function syntaxWindow({ filename, prefix, suffix }: CursorSite): SyntaxWindow {
  const tail = suffix.length <= TAIL_UNITS ? suffix : wholeLines(suffix);
  return { filename, head: headOf(prefix), tail, tailIsCut: tail.length < suffix.length };
}

/** A long prefix begins with a line that looks like the start of a declaration: no indentation, and a letter. */
function headOf(prefix: string): string {
  if (prefix.length <= HEAD_UNITS) return prefix;
  const least = prefix.length - HEAD_UNITS;
  const window = prefix.slice(least);
  const start = /\n(?=[\p{L}_@#])/u.exec(window)?.index ?? window.indexOf("\n");
  return window.slice(start + 1);
}

function wholeLines(suffix: string): string {
  const end = suffix.lastIndexOf("\n", TAIL_UNITS);
  return suffix.slice(0, end < 0 ? TAIL_UNITS : end + 1);
}
