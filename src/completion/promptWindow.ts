// Which part of a file the model reads. The engine keeps what it has read, so windows move rarely and in large steps.
import type { CursorSite } from "./documentSnapshot.ts";

/** The window begins at a multiple of this many lines, so that typing does not move it. */
const ANCHOR_LINES = 64;
const PREFIX_LINES = 384;
const SUFFIX_LINES = 96;
/** Caps for long lines, in UTF-16 units: about 3.5 to a token. */
const PREFIX_UNITS = 12_000;
const SUFFIX_UNITS = 4_000;

export interface PromptWindow {
  prefix: string;
  suffix: string;
}

export function windowOf(site: Pick<CursorSite, "prefix" | "suffix">): PromptWindow {
  return { prefix: prefixWindow(site.prefix), suffix: suffixWindow(site.suffix) };
}

function prefixWindow(prefix: string): string {
  const starts = lineStarts(prefix);
  const lastLine = starts.length - 1;
  let line = Math.max(0, Math.ceil((lastLine - PREFIX_LINES) / ANCHOR_LINES) * ANCHOR_LINES);
  while (line + ANCHOR_LINES <= lastLine && prefix.length - (starts[line] ?? 0) > PREFIX_UNITS) {
    line += ANCHOR_LINES;
  }
  const window = prefix.slice(starts[line]);
  if (window.length <= PREFIX_UNITS) return window;
  // Lines of enormous length: anchors in units take the place of anchors in lines.
  const step = PREFIX_UNITS / 2;
  const cut = Math.ceil((window.length - PREFIX_UNITS) / step) * step;
  return window.slice(isLowSurrogate(window, cut) ? cut + 1 : cut);
}

function suffixWindow(suffix: string): string {
  let end = 0;
  for (let line = 0; line <= SUFFIX_LINES; line++) {
    const next = suffix.indexOf("\n", end);
    if (next < 0) return withinUnits(suffix);
    end = next + 1;
  }
  return withinUnits(suffix.slice(0, end));
}

/** At most SUFFIX_UNITS, ending after a whole line where there is one. */
function withinUnits(suffix: string): string {
  if (suffix.length <= SUFFIX_UNITS) return suffix;
  const lineEnd = suffix.lastIndexOf("\n", SUFFIX_UNITS - 1);
  if (lineEnd > 0) return suffix.slice(0, lineEnd + 1);
  return suffix.slice(0, isLowSurrogate(suffix, SUFFIX_UNITS) ? SUFFIX_UNITS - 1 : SUFFIX_UNITS);
}

function lineStarts(text: string): number[] {
  const starts = [0];
  for (let at = text.indexOf("\n"); at >= 0; at = text.indexOf("\n", at + 1)) starts.push(at + 1);
  return starts;
}

function isLowSurrogate(text: string, at: number): boolean {
  return /[\uDC00-\uDFFF]/.test(text.charAt(at));
}
