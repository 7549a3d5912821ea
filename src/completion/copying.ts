// What the file itself and files like it say about the text at the cursor: the places that read most like it, and what
// follows there. Code repeats itself; where it does, this is right more often than a small model, and takes no time.
import { setImmediate as nextTurn } from "node:timers/promises";
import type { AnswerToken } from "../engineClient/engineApi.ts";
import { continuation, type Step, type Surroundings } from "./copies/continuation.ts";
import { nameBegunBy } from "./copies/enclosing.ts";
import { rightness } from "./copies/rightness.ts";
import { tokensOf, Vocabulary } from "./copies/tokens.ts";
import { TokenText } from "./copies/tokenText.ts";
import type { CursorSite } from "./documentSnapshot.ts";
import { indentWidth } from "./filters/indentWidth.ts";
import { isBeyondSure, surePart } from "./surePart.ts";

/** A text for the cursor with the probability that it is what the user writes. */
export interface Guess {
  text: string;
  probability: number;
}

/** Text that is searched, in UTF-16 units: about 1400 lines before the cursor and 700 behind it. */
const UNITS_BEFORE = 48_000;
const UNITS_AFTER = 24_000;
/** Texts are numbered anew when so many different tokens are known: what was typed once is forgotten then. */
const MOST_TOKENS = 200_000;

const NAME_AT_END = /[\p{L}_$][\p{L}\p{N}_$]*$/u;

/** Finds places; keeps the tokens of the text above the cursor's line, which stays while the user types in it. */
export class Copying {
  #vocabulary = new Vocabulary();
  #above: Numbered | undefined;
  #after: Numbered | undefined;
  #related = new Map<string, TokenText>();
  #learning = 0;

  /**
   * Looks in these texts too from now on, instead of those before. Takes turns with whatever else the thread has to do;
   * a later call takes the place of one that is not done.
   */
  async learn(texts: readonly string[]): Promise<void> {
    const turn = ++this.#learning;
    if (this.#vocabulary.size > MOST_TOKENS) this.forget();
    const vocabulary = this.#vocabulary;
    const learned = new Map<string, TokenText>();
    for (const text of texts) {
      learned.set(text, this.#related.get(text) ?? new TokenText(text, vocabulary));
      await nextTurn();
      if (turn !== this.#learning || vocabulary !== this.#vocabulary) return;
    }
    this.#related = learned;
  }

  /** Knows nothing any more. */
  forget(): void {
    this.#vocabulary = new Vocabulary();
    this.#above = undefined;
    this.#after = undefined;
    this.#related = new Map();
  }

  /**
   * The likeliest continuation, cut where it is worth most among texts that are at least `sure`;
   * undefined when there is none. `lines` allows it to go on beyond the end of the line.
   */
  guess(site: CursorSite, sure: number, lines: boolean): Guess | undefined {
    const around = this.surroundings(site);
    return worthiest(continuation(around), { start: around.start, sure, lines });
  }

  /** What `continuation` looks at for a cursor. */
  surroundings(site: CursorSite): Surroundings {
    const start = NAME_AT_END.exec(site.lineBefore)?.[0] ?? "";
    const lineStart = site.prefix.length - site.lineBefore.length;
    const above = site.prefix.slice(Math.max(0, lineStart - UNITS_BEFORE), lineStart);
    const known = [this.#above, this.#after];
    this.#above = this.#numbered(above, known);
    this.#after = this.#numbered(site.suffix.slice(0, UNITS_AFTER), known.reverse());
    return {
      vocabulary: this.#vocabulary,
      before: this.#before(this.#above.tokens, site.lineBefore, start),
      above: this.#above.tokens,
      after: this.#after.tokens,
      related: [...this.#related.values()],
      start,
      enclosing:
        nameBegunBy(site.lineBefore) ??
        this.#above.tokens.enclosingBehind(indentWidth(site.lineBefore)),
    };
  }

  /** Of `known` the first is most likely to be this text, and lines may have moved from one to the other. */
  #numbered(text: string, known: readonly (Numbered | undefined)[]): Numbered {
    if (known[0]?.text === text) return known[0];
    const numbered = known.flatMap((one) => (one ? [one.tokens] : []));
    return { text, tokens: new TokenText(text, this.#vocabulary, numbered) };
  }

  /** The line's indentation belongs to the line break above it. */
  #before(above: TokenText, lineBefore: string, start: string): Int32Array {
    const last = above.ids.at(-1);
    const head = last === undefined ? above.ids : above.ids.subarray(0, -1);
    const lastText = last === undefined ? "" : this.#vocabulary.textOf(last);
    const line = tokensOf(lastText + lineBefore).map((token) => this.#vocabulary.add(token));
    if (start !== "") line.pop();
    const before = new Int32Array(head.length + line.length);
    before.set(head);
    before.set(line, head.length);
    return before;
  }
}

interface Numbered {
  text: string;
  tokens: TokenText;
}

interface Cut {
  start: string;
  sure: number;
  lines: boolean;
}

function worthiest(steps: Iterable<Step>, { start, sure, lines }: Cut): Guess | undefined {
  const tokens: AnswerToken[] = [];
  for (const step of steps) {
    if (step.text.includes("\n") && !lines) break;
    tokens.push({ text: step.text, logProb: Math.log(rightness(step, start.length)) });
    // The token that is too much is kept: it says whether the line goes on.
    if (isBeyondSure(tokens, sure)) break;
  }
  const text = tokens.map((token) => token.text).join("");
  const { end, probability } = surePart(text, tokens, 0, sure);
  return end === 0 ? undefined : { text: text.slice(0, end).trimEnd(), probability };
}
