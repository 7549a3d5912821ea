import { opensBlock } from "../completionMode.ts";
import type { Filter, FilterSite } from "./filter.ts";
import { indentWidth, lastLineWithText } from "./indentWidth.ts";

/** Drops white space that the model repeats although it stands before the cursor already. */
export const doubledSpace: Filter = (text, at) => {
  if (!/[ \t]$/.test(at.site.lineBefore) || !/^[ \t]/.test(text)) return text;
  const inText = /\S/.test(at.site.lineBefore);
  return inText || isDeepEnough(at) ? text.replace(/^[ \t]+/, "") : text;
};

/** Whether the white space before the cursor is all the indentation that the lines above and below ask for. */
function isDeepEnough({ site }: FilterSite): boolean {
  const above = lastLineWithText(site.prefix.slice(0, site.prefix.length - site.lineBefore.length));
  if (above === undefined) return false;
  const here = indentWidth(site.lineBefore);
  const below = site.suffix
    .slice(site.lineAfter.length)
    .split("\n")
    .find((line) => /\S/.test(line));
  if (below !== undefined && indentWidth(below) > here) return false;
  return opensBlock(above) ? here > indentWidth(above) : here >= indentWidth(above);
}
