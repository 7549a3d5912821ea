import type { Filter } from "./filter.ts";

/** Ends the text before a line that stands after the cursor already, at the same indentation. */
export const followingLines: Filter = (text, { site }) => {
  const rest = site.suffix.slice(site.lineAfter.length);
  const next = rest.split("\n").find((line) => /\S/.test(line));
  if (next === undefined || /\S/.test(site.lineAfter)) return text;
  const lines = text.split("\n");
  const repeated = lines.findIndex(
    (line, i) => bare(i === 0 ? site.lineBefore + line : line) === bare(next),
  );
  return repeated < 0 ? text : lines.slice(0, repeated).join("\n");
};

/** Without what ends a statement or an entry, which one of two equal lines may lack. */
function bare(line: string): string {
  return line.replace(/[\s;,]+$/, "");
}
