// How much of a text is worth showing: the part that is likely enough to be what the user is going to write.
import type { AnswerToken } from "../engineClient/engineApi.ts";

/** Least probability of everything that is shown. */
export const SURE = 0.4;

const NAME_CHARACTER = /[\p{L}\p{N}_$]/u;

/** Whether the tokens from the start are so unlikely together that more of them would not be shown. */
export function isBeyondSure(tokens: readonly AnswerToken[]): boolean {
  return tokens.reduce((sum, { logProb }) => sum + logProb, 0) < Math.log(SURE);
}

export interface SurePart {
  /** Offset in UTF-16 units. */
  end: number;
  probability: number;
}

/**
 * The sure part of `text`, which begins at `from`: it ends where probability times length is largest, of those places
 * where the text from `from` on has at least the probability `SURE` and no name is cut apart.
 * Ends at `from` when there is none. `tokens` are those of the text from its start.
 */
export function surePart(text: string, tokens: readonly AnswerToken[], from: number): SurePart {
  let best = { end: from, probability: 0 };
  let end = 0;
  let logProb = 0;
  for (const token of tokens) {
    end = Math.min(end + token.text.length, text.length);
    if (end <= from) continue;
    logProb += token.logProb;
    if (!(logProb >= Math.log(SURE))) break;
    const probability = Math.exp(logProb);
    const isWorthMore = probability * (end - from) > best.probability * (best.end - from);
    if (isWorthMore && !cutsName(text, end)) best = { end, probability };
  }
  return best;
}

function cutsName(text: string, end: number): boolean {
  return NAME_CHARACTER.test(text.charAt(end - 1)) && NAME_CHARACTER.test(text.charAt(end));
}
