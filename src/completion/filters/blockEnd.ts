import type { Filter, FilterSite } from "./filter.ts";
import { indentWidth } from "./indentWidth.ts";

/** Closing brackets at the start of a line that belong to the block above them. */
const CLOSING = /^\s*(?:[)\]}]+[;,]?|end\b)/;

/** In multi-line mode, the text up to the end of the block that the cursor stands in. */
export const blockEnd: Filter = (text, at) => {
  const end = blockEndOf(text, at);
  return end === undefined ? text : text.slice(0, end);
};

/**
 * Offset where the block ends, or undefined while no line after it has been seen.
 * A block ends at a blank line after its first text, and before a line of less indentation than it has;
 * the closing bracket of an opener before the cursor still belongs to it.
 */
export function blockEndOf(text: string, { site, mode }: FilterSite): number | undefined {
  if (mode === "single") return undefined;
  const openerBefore = /\S/.test(site.lineBefore);
  const outside = openerBefore ? indentWidth(site.lineBefore) : indentWidth(site.lineBefore) - 1;
  let lineStart = text.indexOf("\n") + 1;
  if (lineStart === 0) return undefined;
  let hasText = /\S/.test(text.slice(0, lineStart));
  while (lineStart <= text.length) {
    const next = text.indexOf("\n", lineStart);
    const line = next < 0 ? text.slice(lineStart) : text.slice(lineStart, next);
    if (/\S/.test(line)) {
      if (indentWidth(line) <= outside) {
        const closing = openerBefore && indentWidth(line) === outside ? CLOSING.exec(line) : null;
        return closing ? lineStart + closing[0].length : lineStart - 1;
      }
      hasText = true;
    } else if (next >= 0 && hasText) {
      return lineStart - 1;
    }
    if (next < 0) return undefined;
    lineStart = next + 1;
  }
  return undefined;
}
