// From what the model said to what the user sees.
import type { CompletionResult, NothingReason } from "./completionResult.ts";
import { blockEnd, blockEndOf } from "./filters/blockEnd.ts";
import { fitClosers } from "./filters/closers.ts";
import { doubledSpace } from "./filters/doubledSpace.ts";
import { enclosingEnd } from "./filters/enclosingEnd.ts";
import type { Filter, FilterSite, FilterStep, StepName } from "./filters/filter.ts";
import { firstLine } from "./filters/firstLine.ts";
import { followingLines } from "./filters/followingLines.ts";
import { indentStyle } from "./filters/indentStyle.ts";
import { precedingLines } from "./filters/precedingLines.ts";
import { repetition } from "./filters/repetition.ts";
import { trailingSpace } from "./filters/trailingSpace.ts";
import { unfinishedLine } from "./filters/unfinishedLine.ts";

/** In order: first the extent of the text, which only cuts its end, then its form, then what stands around it already. */
const FILTERS: readonly { name: StepName; filter: Filter; reason: NothingReason }[] = [
  { name: "first line", filter: firstLine, reason: "blank" },
  { name: "enclosing end", filter: enclosingEnd, reason: "repeats-following" },
  { name: "block end", filter: blockEnd, reason: "blank" },
  { name: "unfinished line", filter: unfinishedLine, reason: "blank" },
  { name: "indent style", filter: indentStyle, reason: "blank" },
  { name: "doubled space", filter: doubledSpace, reason: "blank" },
  { name: "repetition", filter: repetition, reason: "blank" },
  { name: "preceding lines", filter: precedingLines, reason: "repeats-preceding" },
  { name: "following lines", filter: followingLines, reason: "repeats-following" },
];

/**
 * The part of `generated`, LF line ends, that is shown at `at`, with the document's line ends; or why nothing is.
 * What each filter did is added to `steps`.
 */
export function postProcess(
  generated: string,
  at: FilterSite,
  steps?: FilterStep[],
): CompletionResult {
  let text = generated;
  for (const { name, filter, reason } of FILTERS) {
    const before = text;
    text = filter(text, at);
    steps?.push({ name, before, after: text });
    if (!/\S/.test(text)) return { kind: "nothing", reason: /\S/.test(before) ? reason : "blank" };
  }
  const fitted = fitClosers(text, at);
  steps?.push({ name: "closers", before: text, after: fitted.text });
  if (!/\S/.test(fitted.text)) return { kind: "nothing", reason: "repeats-following" };
  const shown = trailingSpace(fitted.text, at);
  steps?.push({ name: "trailing space", before: fitted.text, after: shown });
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
