import { withoutLiterals } from "../cursorSyntax.ts";
import type { Filter, FilterSite } from "./filter.ts";
import { indentChange } from "./indentStyle.ts";
import { indentWidth } from "./indentWidth.ts";

/** Closing brackets at the start of a line that belong to the block above them. */
const CLOSING = /^\s*(?:[)\]}]+[;,]?|end\b)/;

/** In multi-line mode, the text up to the end of the block that the cursor stands in. */
export const blockEnd: Filter = (text, at) => {
  const end = blockEndOf(text, at);
  return end === undefined ? text : text.slice(0, end);
};

/**
 * Offset where the block ends, or undefined while no line after it has been seen. Lines inside of strings and comments
 * are none, as far as these are known.
 * A block ends at a blank line after its first text, and before a line of less indentation than it has;
 * the closing bracket of an opener before the cursor still belongs to it, where the document has no other.
 */
export function blockEndOf(generated: string, at: FilterSite): number | undefined {
  if (at.mode === "single") return undefined;
  const text = withoutLiterals(generated, at.literals);
  const change = indentChange(generated, at) ?? ((line: string) => line);
  const { closing, outside } = edgeOf(at);
  let lineStart = text.indexOf("\n") + 1;
  if (lineStart === 0) return undefined;
  let hasText = /\S/.test(text.slice(0, lineStart));
  while (lineStart <= text.length) {
    const next = text.indexOf("\n", lineStart);
    const line = next < 0 ? text.slice(lineStart) : text.slice(lineStart, next);
    if (/\S/.test(line)) {
      const indent = indentWidth(change(line));
      if (indent <= outside) {
        const closes = indent === closing ? CLOSING.exec(line) : null;
        return closes ? lineStart + closes[0].length : lineStart - 1;
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

interface BlockEdge {
  /** Columns of indentation that lie outside of the block. */
  outside: number;
  /** Columns at which a closing bracket still belongs to it. */
  closing: number | undefined;
}

function edgeOf({ site, scope }: FilterSite): BlockEdge {
  const indent = indentWidth(site.lineBefore);
  if (/\S/.test(site.lineBefore)) return { outside: indent, closing: indent };
  const innermost = scope?.brackets[0];
  const isOpen = innermost !== undefined && !innermost.closed && innermost.indent < indent;
  return { outside: indent - 1, closing: isOpen ? innermost.indent : undefined };
}
