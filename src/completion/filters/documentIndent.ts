import type { CursorSite } from "../documentSnapshot.ts";

/** Text that tells how a document is indented, in UTF-16 units: the nearest is enough, and a document may be huge. */
const UNITS_BEFORE = 16_000;
const UNITS_AFTER = 4_000;
/** Steps in which code is indented; others align things. */
const STEPS = [2, 3, 4, 8];
const LARGEST_STEP = 8;
const DEFAULT_STEP = 4;

/**
 * One level of indentation around a cursor: `"\t"`, or so many spaces; undefined when nothing is indented. The cursor's
 * own line decides between tabs and spaces, because a block of both is none; else what most lines use.
 */
export function documentIndent({ prefix, suffix, lineBefore }: CursorSite): string | undefined {
  const near = prefix.slice(-UNITS_BEFORE) + suffix.slice(0, UNITS_AFTER);
  const indents = near.match(/^[ \t]+(?=\S)/gm) ?? [];
  const own = /^(?:\t| {2})/.exec(lineBefore)?.[0];
  if (indents.length === 0 && own === undefined) return undefined;
  const nTabs = indents.filter((indent) => indent.startsWith("\t")).length;
  const isTabs = own === undefined ? nTabs * 2 > indents.length : own === "\t";
  return isTabs ? "\t" : " ".repeat(stepOf(near, indents));
}

/** The commonest step from one line to a deeper one; else the least indentation. */
function stepOf(text: string, indents: readonly string[]): number {
  const counts = new Map<number, number>();
  let above = 0;
  for (const { 0: line } of text.matchAll(/^( *)(?=\S)/gm)) {
    const step = line.length - above;
    if (STEPS.includes(step)) counts.set(step, (counts.get(step) ?? 0) + 1);
    above = line.length;
  }
  const [commonest] = [...counts].sort((a, b) => b[1] - a[1] || a[0] - b[0]);
  if (commonest) return commonest[0];
  const widths = indents.map((indent) => /^ */.exec(indent)?.[0].length ?? 0);
  const steps = widths.filter((width) => width >= 2);
  return steps.length === 0 ? DEFAULT_STEP : Math.min(LARGEST_STEP, ...steps);
}
