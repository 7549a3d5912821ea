// An ideal user types a session: takes what is shown whenever it is what would be typed next, and types one character otherwise.
import type { ReplaySession } from "./sessions.ts";

/** Where the user stands: what is before the cursor, and after it. */
export interface Place {
  filename: string;
  before: string;
  after: string;
}

export interface Offer {
  text: string;
  /** From the keystroke until the text could be shown, in milliseconds. */
  ms: number;
}

/** What is asked at every place. */
export interface Source {
  /** Undefined: nothing is shown. */
  offer(place: Place): Offer | undefined | Promise<Offer | undefined>;
  /** The whole of an offer was taken. */
  accepted?(): void | Promise<void>;
  /** The user looks at what is shown for as long as typing one key takes. */
  pause?(): void | Promise<void>;
}

/** `whole`: takes a text only when all of it is right. `word`: takes its next word when only that is right. */
export type Taking = "whole" | "word";

export interface Tally {
  /** Characters that came to stand in the documents. */
  characters: number;
  /** Keys that were pressed: typed characters, and one for every text taken. */
  keystrokes: number;
  /** Texts that came to be shown; a text of which characters are typed stays the same text. */
  shown: number;
  /** Of those, texts that were taken in whole or, word by word, in part. */
  accepted: number;
  /** Places where a text was shown, each after one keystroke. */
  displays: number;
  /** Until a text was shown, of every display. */
  ms: number[];
}

export function newTally(): Tally {
  return { characters: 0, keystrokes: 0, shown: 0, accepted: 0, displays: 0, ms: [] };
}

/** White space and a name or a number, or white space and other characters: what "accept next word" inserts. */
const NEXT_WORD = /^\s*(?:[\p{L}\p{N}_]+|[^\p{L}\p{N}_\s]+)|^\s+/u;

/** Types `session` to its end, asking `source` before every key, and adds to `tally`. */
export async function typeSession(
  session: ReplaySession,
  source: Source,
  taking: Taking,
  tally: Tally,
): Promise<void> {
  const { typed, filename, after } = session;
  let at = 0;
  /** What is left of the text on the screen, and whether some of it was taken. */
  let visible: { text: string; taken: boolean } | undefined;
  while (at < typed.length) {
    const before = session.before + typed.slice(0, at);
    const offer = await source.offer({ filename, before, after });
    if (offer === undefined) visible = undefined;
    else {
      tally.displays++;
      tally.ms.push(offer.ms);
      if (visible?.text !== offer.text) {
        tally.shown++;
        visible = { text: offer.text, taken: false };
      }
    }
    await source.pause?.();
    const taken = offer === undefined ? "" : takenOf(offer.text, typed.slice(at), taking);
    if (taken !== "" && visible !== undefined) {
      if (!visible.taken) tally.accepted++;
      visible.taken = true;
      if (taken === visible.text) await source.accepted?.();
    }
    const step = taken === "" ? wholeCharacter(typed, at) : taken;
    visible = visible?.text.startsWith(step)
      ? { text: visible.text.slice(step.length), taken: visible.taken }
      : undefined;
    at += step.length;
    tally.keystrokes++;
  }
  tally.characters += typed.length;
}

/** The part of `shown` that the user takes, who is going to write `wanted`; empty when nothing. */
function takenOf(shown: string, wanted: string, taking: Taking): string {
  if (wanted.startsWith(shown)) return shown;
  const word = taking === "word" ? (NEXT_WORD.exec(shown)?.[0] ?? "") : "";
  return wanted.startsWith(word) ? word : "";
}

function wholeCharacter(text: string, at: number): string {
  return String.fromCodePoint(text.codePointAt(at) ?? 0);
}
