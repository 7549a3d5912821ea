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

/** A single character saves no key when it is right, so it must be more likely: by so many times, up to this. */
const FOR_A_CHARACTER = 2.4;
const SURE_CHARACTER = 0.8;

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
 * from `from` on has at least the probability `sure`, no name is cut apart, and no line but that of the cursor, or the
 * first below it. Ends at `from` when there is none. `tokens` are those of the text from its start.
 */
export function surePart(
  text: string,
  tokens: readonly AnswerToken[],
  from: number,
  sure: number,
): SurePart {
  let best = { end: from, probability: 0 };
  let mostWorth = 0;
  let end = 0;
  let logProb = 0;
  for (const token of tokens) {
    end = Math.min(end + token.text.length, text.length);
    if (end <= from) continue;
    logProb += token.logProb;
    if (!(logProb >= Math.log(sure))) break;
    const probability = Math.exp(logProb);
    const shown = text.slice(from, end).trimEnd();
    const worth = worthOf(probability, shown.length);
    if (
      worth <= mostWorth ||
      cutsName(text, end) ||
      cutsLine(shown, text.slice(from + shown.length))
    )
      continue;
    if (probability < leastFor(shown, sure)) continue;
    best = { end, probability };
    mostWorth = worth;
  }
  return best;
}

function leastFor(shown: string, sure: number): number {
  const isCharacter = /^.$/u.test(shown.trim());
  return isCharacter ? Math.min(SURE_CHARACTER, sure * FOR_A_CHARACTER) : sure;
}

function cutsName(text: string, end: number): boolean {
  return NAME_CHARACTER.test(text.charAt(end - 1)) && NAME_CHARACTER.test(text.charAt(end));
}

/** Whether `shown` has several lines, blank ones at its start apart, and ends within the last. */
function cutsLine(shown: string, rest: string): boolean {
  return shown.trimStart().includes("\n") && /^[^\S\n]*\S/.test(rest);
}
