// What the grammar of a language says about a cursor and about a text written there. Parsing needs time and a place of
// its own (src/syntax/), so everything here may be missing: then rules on the text alone decide.
import type { CursorSite } from "./documentSnapshot.ts";

/** What a pair of brackets or an indented body holds: statements or members, parts of a value, or arguments and the like. */
export type Container = "block" | "literal" | "list";

/** A bracket before the cursor that is still open there. */
export interface OpenBracket {
  closer: ")" | "]" | "}";
  /** Whether its closer stands behind the cursor, or may stand there in a part that was not looked at. */
  closed: boolean;
  /** Columns of white space at the start of its line. */
  indent: number;
}

/** Where a cursor stands. */
export interface CursorScope {
  within: "code" | "string" | "comment";
  container: Container;
  /** What the last token before the cursor opens; undefined when it opens nothing. */
  opens: Container | undefined;
  /** The innermost first. */
  brackets: readonly OpenBracket[];
}

/** Part of a text, in UTF-16 units; `end` is not part of it. */
export interface TextRange {
  start: number;
  end: number;
}

/** Answers from syntax trees. Both resolve to undefined when there is no grammar, or no answer in time. */
export interface CursorSyntax {
  scopeAt(site: CursorSite): Promise<CursorScope | undefined>;
  /** The strings and comments in `text`, written at `site`: line ends and brackets there mean nothing. */
  literalsIn(site: CursorSite, text: string): Promise<readonly TextRange[] | undefined>;
}

/** `text` of the same length with every character of `ranges` replaced by one that means nothing in any grammar. */
export function withoutLiterals(text: string, ranges: readonly TextRange[] | undefined): string {
  if (ranges === undefined || ranges.length === 0) return text;
  let masked = "";
  let end = 0;
  for (const range of ranges) {
    masked += text.slice(end, range.start) + "x".repeat(Math.max(0, range.end - range.start));
    end = Math.max(end, range.end);
  }
  return masked + text.slice(end);
}
