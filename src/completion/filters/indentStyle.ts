import { opensBlock } from "../completionMode.ts";
import type { Filter } from "./filter.ts";

/** Levels of most code that is indented with spaces. */
const DEFAULT_UNIT = 4;

/** Indents new lines with tabs or with spaces as the document does. */
export const indentStyle: Filter = (text, { site }) => {
  if (!text.includes("\n")) return text;
  const style = styleOf(`${site.prefix}${site.suffix}`);
  if (style === undefined) return text;
  const [first = "", ...rest] = text.split("\n");
  const unit = " ".repeat(generatedUnit(rest, site.lineBefore));
  const changed = rest.map((line) =>
    line.replace(/^[ \t]+/, (indent) =>
      style === "\t" ? indent.replaceAll(unit, "\t") : indent.replaceAll("\t", style),
    ),
  );
  return [first, ...changed].join("\n");
};

/** `"\t"`, or the spaces of one level; undefined when no line is indented. */
function styleOf(document: string): string | undefined {
  const indents = document.match(/^[ \t]+(?=\S)/gm) ?? [];
  if (indents.length === 0) return undefined;
  const tabs = indents.filter((indent) => indent.startsWith("\t")).length;
  if (tabs * 2 > indents.length) return "\t";
  const widths = indents
    .map((indent) => /^ */.exec(indent)?.[0].length ?? 0)
    .filter((width) => width >= 2);
  return " ".repeat(widths.length === 0 ? DEFAULT_UNIT : Math.min(8, ...widths));
}

/**
 * Spaces of one level in the generated lines, by the level that the first of them should have in a document of tabs.
 * Only that line decides, so that the answer stays the same while more text arrives.
 */
function generatedUnit(lines: readonly string[], lineBefore: string): number {
  const level = (/^\t*/.exec(lineBefore)?.[0].length ?? 0) + (opensBlock(lineBefore) ? 1 : 0);
  const line = lines.find((candidate) => /^ +\S/.test(candidate));
  const width = line === undefined ? 0 : line.search(/\S/);
  return level > 0 && width >= 2 * level && width % level === 0 ? width / level : DEFAULT_UNIT;
}
