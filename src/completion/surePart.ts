// How much of a text is worth showing: the part that is likely enough to be what the user is going to write.
import type { AnswerToken } from "../engineClient/engineApi.ts";

/** Least probability of everything that is shown, when neither the user's mode nor what was learned says otherwise. */
export const BALANCED_SURE = 0.33;
/** Least probability of a text for somebody who asked for one, where nothing surer is there. */
export const ASKED_SURE = 0.02;
/** By so much more must be sure what is shown on, with every key that is typed into it instead of taking it. */
const DOUBT = 1.4;
const MOST_SURE = 0.9;

/** Least probability of a text to show: `sure` at first, more when `nPassedOver` keys in a row were typed into what was shown. */
export function leastSure(nPassedOver: number, sure = BALANCED_SURE): number {
  return Math.min(Math.max(MOST_SURE, sure), sure * DOUBT ** nPassedOver);
}

/** What showing so many characters is worth: rather a shorter text that is right. */
export function worthOf(probability: number, length: number): number {
  return probability ** 2 * length;
}

const NAME_CHARACTER = /[\p{L}\p{N}_$]/u;

/** Whether the tokens from the start are so unlikely together that more of them would not be shown. */
export function isBeyondSure(tokens: readonly AnswerToken[], sure: number): boolean {
  return tokens.reduce((sum, { logProb }) => sum + logProb, 0) < Math.log(sure);
}

export interface SurePart {
  /** Offset in UTF-16 units. */
  end: number;
  probability: number;
}

/**
 * The sure part of `text`, which begins at `from`: it ends where it is worth most, of those places where the text
 * from `from` on has at least the probability `sure` and no name is cut apart.
 * Ends at `from` when there is none. `tokens` are those of the text from its start.
 */
export function surePart(
  text: string,
  tokens: readonly AnswerToken[],
  from: number,
  sure: number,
): SurePart {
  let best = { end: from, probability: 0 };
  let end = 0;
  let logProb = 0;
  for (const token of tokens) {
    end = Math.min(end + token.text.length, text.length);
    if (end <= from) continue;
    logProb += token.logProb;
    if (!(logProb >= Math.log(sure))) break;
    const probability = Math.exp(logProb);
    const isWorthMore =
      worthOf(probability, end - from) > worthOf(best.probability, best.end - from);
    if (isWorthMore && !cutsName(text, end)) best = { end, probability };
  }
  return best;
}

function cutsName(text: string, end: number): boolean {
  return NAME_CHARACTER.test(text.charAt(end - 1)) && NAME_CHARACTER.test(text.charAt(end));
}
