import type { AnswerToken } from "../engineClient/engineApi.ts";
import type { CompletionMode } from "./completionMode.ts";
import type { CompletionResult } from "./completionResult.ts";
import type { Guess } from "./copying.ts";
import type { CursorSite } from "./documentSnapshot.ts";
import { fitClosers } from "./filters/closers.ts";
import type { FilterStep } from "./filters/filter.ts";
import type { Answer } from "./generation.ts";
import { postProcess } from "./postProcess.ts";
import { ASKED_SURE, type SurePart, surePart, worthOf } from "./surePart.ts";

/** A result with the probability that what it shows is right; 0 when nothing is shown. */
export interface Weighed {
  result: CompletionResult;
  probability: number;
  /** Copied from the file or one like it. */
  isCopy?: true;
}

const nothing = (reason: "blank" | "unsure"): Weighed => ({
  result: { kind: "nothing", reason },
  probability: 0,
});

/**
 * What is shown of an answer at `site`, which is the answer's own place or one further on in its text.
 * The text is always cut at the answer's own place, so that what is shown does not change under the user's typing;
 * how much of it is shown is decided here, where the text up to the cursor is known to be right: it is at least `sure`.
 * What cuts it is added to `steps`.
 */
export function resultAt(
  answer: Answer,
  site: CursorSite,
  sure: number,
  steps?: FilterStep[],
): Weighed {
  const whole = postProcess(answer.text, { ...answer, site: answer.site }, steps);
  if (whole.kind === "nothing") return { result: whole, probability: 0 };
  const typed = site.prefix.slice(answer.site.prefix.length);
  const text = whole.text.replaceAll("\r\n", "\n");
  if (!text.startsWith(typed)) return nothing("blank");
  if (!/\S/.test(text.slice(typed.length))) return nothing("blank");
  const { end, probability } = sureIn(answer, text, typed.length, sure);
  const rest = text.slice(typed.length);
  const part = text.slice(typed.length, end).trimEnd();
  if (typed !== "") steps?.push({ name: "typed since", before: text, after: rest });
  steps?.push({ name: "sure part", before: rest, after: part });
  if (part === "") return nothing("unsure");
  if (typed === "" && part === text) return { result: whole, probability };
  const fitted = fitClosers(part, { ...answer, site });
  steps?.push({ name: "closers", before: part, after: fitted.text });
  if (!/\S/.test(fitted.text)) return nothing("blank");
  return {
    result: {
      kind: "shown",
      text: fitted.text.replaceAll("\n", site.eol),
      replaceLength: fitted.replaceLength,
    },
    probability,
  };
}

/** What is shown of a text copied from elsewhere in the file. */
export function resultOfGuess(
  { text, probability }: Guess,
  site: CursorSite,
  mode: CompletionMode,
  steps?: FilterStep[],
): Weighed {
  const result = postProcess(text, { site, mode, cutByLimit: false }, steps);
  return { result, probability: result.kind === "shown" ? probability : 0, isCopy: true };
}

/** A copied text that is so sure and so long is shown without asking the model. */
const SURE_COPY = 0.85;
const LONG_COPY = 6;

/** Whether no answer of the model would be shown in its place. */
export function needsNoModel(copied: Weighed | undefined): copied is Weighed {
  if (copied?.result.kind !== "shown") return false;
  return copied.probability >= SURE_COPY && copied.result.text.length >= LONG_COPY;
}

/** The one that is worth more; the first of equals. */
export function worthMore(a: Weighed, b: Weighed | undefined): Weighed {
  return b !== undefined && worth(b) > worth(a) ? b : a;
}

/**
 * For somebody who asked for a text: what is shown while typing, where texts are at least `sure`; where that is nothing,
 * the model's best guess, unless it would be a wild one.
 */
export function bestGuess(
  answered: (sure: number) => Weighed,
  copied: Weighed | undefined,
  sure: number,
): Weighed {
  if (needsNoModel(copied)) return copied;
  const likely = worthMore(answered(sure), copied);
  return likely.result.kind === "shown" ? likely : answered(Math.min(sure, ASKED_SURE));
}

function worth({ result, probability }: Weighed): number {
  return result.kind === "shown" ? worthOf(probability, result.text.length) : 0;
}

/** Filters cut the end, and change blanks: where they did, tokens end behind the same characters that are none. */
function sureIn(answer: Answer, text: string, from: number, sure: number): SurePart {
  const isAsSaid = answer.text.startsWith(text);
  return surePart(text, isAsSaid ? answer.tokens : tokensIn(text, answer), from, sure);
}

/** The tokens of an answer as they stand in a text that has other blanks. */
function tokensIn(text: string, answer: Answer): AnswerToken[] {
  const starts = [...text.matchAll(/\S/g)].map(({ index }) => index);
  let said = 0;
  let nSolid = 0;
  let start = 0;
  return answer.tokens.map((token) => {
    const piece = answer.text.slice(said, said + token.text.length);
    said += piece.length;
    nSolid += piece.replace(/\s+/g, "").length;
    const next = starts[nSolid] ?? text.length;
    const isSolidEnd = piece !== "" && !/\s$/.test(piece);
    const end = isSolidEnd ? (starts[nSolid - 1] ?? text.length - 1) + 1 : next;
    const standing = text.slice(start, end);
    start = Math.max(start, end);
    return { text: standing, logProb: token.logProb };
  });
}
