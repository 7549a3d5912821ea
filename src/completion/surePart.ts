// How much of an answer is worth showing: the part that is likely enough to be what the user is going to write.
import type { AnswerToken } from "../engineClient/engineApi.ts";

/** Least probability of everything that is shown. */
export const SURE = 0.4;

const NAME_CHARACTER = /[\p{L}\p{N}_$]/u;

/** Whether the tokens from the start are so unlikely together that more of them would not be shown. */
export function isBeyondSure(tokens: readonly AnswerToken[]): boolean {
  return tokens.reduce((sum, { logProb }) => sum + logProb, 0) < Math.log(SURE);
}

/**
 * End of the sure part of `text`, which begins at `from`: the place behind which probability times length is largest,
 * of those where the text from `from` on has at least the probability `SURE` and no name is cut apart.
 * Equals `from` when there is none. `tokens` are those of the text from its start; offsets in UTF-16 units.
 */
export function sureEnd(text: string, tokens: readonly AnswerToken[], from: number): number {
  let best = { end: from, worth: 0 };
  let end = 0;
  let logProb = 0;
  for (const token of tokens) {
    end = Math.min(end + token.text.length, text.length);
    if (end <= from) continue;
    logProb += token.logProb;
    if (!(logProb >= Math.log(SURE))) break;
    const worth = Math.exp(logProb) * (end - from);
    if (worth > best.worth && !cutsName(text, end)) best = { end, worth };
  }
  return best.end;
}

function cutsName(text: string, end: number): boolean {
  return NAME_CHARACTER.test(text.charAt(end - 1)) && NAME_CHARACTER.test(text.charAt(end));
}
