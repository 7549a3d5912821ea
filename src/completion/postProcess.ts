// From what the model said to what the user sees.
import type { CompletionResult, NothingReason } from "./completionResult.ts";
import { blockEnd, blockEndOf } from "./filters/blockEnd.ts";
import { fitClosers } from "./filters/closers.ts";
import { doubledSpace } from "./filters/doubledSpace.ts";
import { enclosingEnd } from "./filters/enclosingEnd.ts";
import type { Filter, FilterSite } from "./filters/filter.ts";
import { firstLine } from "./filters/firstLine.ts";
import { followingLines } from "./filters/followingLines.ts";
import { indentStyle } from "./filters/indentStyle.ts";
import { precedingLines } from "./filters/precedingLines.ts";
import { repetition } from "./filters/repetition.ts";
import { trailingSpace } from "./filters/trailingSpace.ts";
import { unfinishedLine } from "./filters/unfinishedLine.ts";

/** In order: first the extent of the text, which only cuts its end, then its form, then what stands around it already. */
const FILTERS: readonly { filter: Filter; reason: NothingReason }[] = [
  { filter: firstLine, reason: "blank" },
  { filter: enclosingEnd, reason: "repeats-following" },
  { filter: blockEnd, reason: "blank" },
  { filter: unfinishedLine, reason: "blank" },
  { filter: indentStyle, reason: "blank" },
  { filter: doubledSpace, reason: "blank" },
  { filter: repetition, reason: "blank" },
  { filter: precedingLines, reason: "repeats-preceding" },
  { filter: followingLines, reason: "repeats-following" },
];

/** The part of `generated`, LF line ends, that is shown at `at`, with the document's line ends; or why nothing is. */
export function postProcess(generated: string, at: FilterSite): CompletionResult {
  let text = generated;
  for (const { filter, reason } of FILTERS) {
    const before = text;
    text = filter(text, at);
    if (!/\S/.test(text)) return { kind: "nothing", reason: /\S/.test(before) ? reason : "blank" };
  }
  const fitted = fitClosers(text, at);
  if (!/\S/.test(fitted.text)) return { kind: "nothing", reason: "repeats-following" };
  const shown = trailingSpace(fitted.text, at);
  return {
    kind: "shown",
    text: shown.replaceAll("\n", at.site.eol),
    replaceLength: fitted.replaceLength,
  };
}

/** Whether more text would not change what is shown of `generated`, so that generation may stop. */
export function isComplete(generated: string, at: FilterSite): boolean {
  if (at.mode === "single") return generated.includes("\n");
  return blockEndOf(generated, at) !== undefined;
}
