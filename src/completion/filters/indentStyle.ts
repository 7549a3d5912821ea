import { opensBlock } from "../completionMode.ts";
import { type TextRange, withoutLiterals } from "../cursorSyntax.ts";
import { documentIndent } from "./documentIndent.ts";
import type { Filter, FilterSite } from "./filter.ts";

/** Levels of most code that is indented with spaces. */
const DEFAULT_UNIT = 4;

/** What ends a line behind which a body stands, one level deeper; continued argument lists may be indented otherwise. */
const BODY_OPENER = /[{:]\s*$/;

/** Indents new lines as the document does: with tabs or spaces, and with as many to a level. */
export const indentStyle: Filter = (text, at) => {
  const change = indentChange(text, at);
  if (change === undefined) return text;
  let lineStart = 0;
  return text
    .split("\n")
    .map((line, i) => {
      const isCode = i > 0 && !isInside(at.literals, lineStart);
      lineStart += line.length + 1;
      return isCode ? change(line) : line;
    })
    .join("\n");
};

/** How a new line of `text` is indented in the document; undefined when as it stands. */
export function indentChange(text: string, at: FilterSite): ((line: string) => string) | undefined {
  if (!text.includes("\n")) return undefined;
  const { site } = at;
  const style = documentIndent(site);
  if (style === undefined) return undefined;
  const lines = withoutLiterals(text, at.literals).split("\n");
  if (style === "\t") {
    const unit = " ".repeat(unitAmongTabs(lines.slice(1), site.lineBefore));
    return (line) => line.replace(/^[ \t]+/, (indent) => indent.replaceAll(unit, "\t"));
  }
  const inSpaces = (line: string) =>
    line.replace(/^[ \t]+/, (indent) => indent.replaceAll("\t", style));
  const base = inSpaces(site.lineBefore).search(/\S|$/);
  const generated = unitAmongSpaces(lines.map(inSpaces), site.lineBefore, base);
  if (generated === undefined || generated === style.length) return inSpaces;
  return (line) =>
    // The star of a comment stands one space behind its level.
    inSpaces(line).replace(/^ +?(?= ?\*)|^ +(?=\S)/, ({ length }) => {
      const levels = Math.round((length - base) / generated);
      return " ".repeat(length <= base ? length : base + levels * style.length);
    });
}

function isInside(ranges: readonly TextRange[] | undefined, offset: number): boolean {
  return ranges?.some(({ start, end }) => start < offset && offset < end) ?? false;
}

/**
 * Spaces of one level in the generated lines, by the level that the first of them should have in a document of tabs.
 * Only that line decides, so that the answer stays the same while more text arrives.
 */
function unitAmongTabs(lines: readonly string[], lineBefore: string): number {
  const level = (/^\t*/.exec(lineBefore)?.[0].length ?? 0) + (opensBlock(lineBefore) ? 1 : 0);
  const line = lines.find((candidate) => /^ +\S/.test(candidate));
  const width = line === undefined ? 0 : line.search(/\S/);
  return level > 0 && width >= 2 * level && width % level === 0 ? width / level : DEFAULT_UNIT;
}

/** Spaces between the first line that opens a body and the line below it; undefined when there is none. */
function unitAmongSpaces(
  lines: readonly string[],
  lineBefore: string,
  base: number,
): number | undefined {
  const whole = [lineBefore + (lines[0] ?? ""), ...lines.slice(1)].filter((l) => /\S/.test(l));
  const opener = whole.findIndex((line) => BODY_OPENER.test(line) && opensBlock(line));
  const below = whole[opener + 1];
  if (opener < 0 || below === undefined) return undefined;
  const from = opener === 0 ? base : (whole[opener] ?? "").search(/\S/);
  const deeper = below.search(/\S/) - from;
  return deeper > 0 ? deeper : undefined;
}
