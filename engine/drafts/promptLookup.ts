/**
 * Finds the end of a text again further up in it: what followed there is a guess at what follows here. Code repeats
 * itself, and an edit mostly copies what stands in the prompt (prompt lookup; docs/decisions/0010).
 * Places are chained by a hash of the three tokens before them, as in LZ77.
 */

/** Tokens that make a place a candidate. */
export const KEY_TOKENS = 3;
/** Candidates that are looked at, the latest first: a key such as a line break and its indentation has hundreds. */
const MOST_CANDIDATES = 32;
/** Longer matches are not told apart. */
export const LONGEST_MATCH = 64;

export interface Match {
  /** Index of the token that followed the earlier place. */
  at: number;
  /** Tokens before it that equal the text's last ones: KEY_TOKENS to LONGEST_MATCH. */
  length: number;
  /** Of the places that match at least half as far, the share after which the same token came. */
  agreement: number;
}

export class PromptLookup {
  private readonly tokens: readonly number[];
  /** By hash: the latest place, or -1. A place is the index of the token that follows its key. */
  private readonly latest: Int32Array;
  /** By place: the one before it with the same hash, or -1. */
  private readonly before: number[] = [];

  /** `tokens` may grow at its end, and nowhere else change. */
  constructor(tokens: readonly number[]) {
    this.tokens = tokens;
    this.latest = new Int32Array(tableSize(tokens.length)).fill(-1);
  }

  /** The place with the longest match (the latest of several) that something follows; undefined when there is none. */
  find(): Match | undefined {
    this.index();
    const end = this.tokens.length;
    if (end <= KEY_TOKENS) return undefined;
    let best: Omit<Match, "agreement"> | undefined;
    const found: Omit<Match, "agreement">[] = [];
    let at = this.latest[this.hash(end)] ?? -1;
    for (let n = 0; at >= 0 && n < MOST_CANDIDATES; n++, at = this.before[at] ?? -1) {
      const length = this.commonBefore(at, end);
      if (length < KEY_TOKENS) continue;
      found.push({ at, length });
      if (length > (best?.length ?? 0)) best = { at, length };
    }
    return best && { ...best, agreement: this.agreement(best, found) };
  }

  private agreement(
    best: { at: number; length: number },
    found: readonly { at: number; length: number }[],
  ) {
    const close = found.filter(({ length }) => 2 * length >= best.length);
    const same = close.filter(({ at }) => this.tokens[at] === this.tokens[best.at]);
    return same.length / close.length;
  }

  /** Adds the places that something follows by now. */
  private index(): void {
    for (let at = this.before.length; at < this.tokens.length; at++) {
      if (at < KEY_TOKENS) {
        this.before.push(-1);
        continue;
      }
      const hash = this.hash(at);
      this.before.push(this.latest[hash] ?? -1);
      this.latest[hash] = at;
    }
  }

  /** Of the KEY_TOKENS tokens before `end`. */
  private hash(end: number): number {
    let hash = 0;
    for (let i = end - KEY_TOKENS; i < end; i++)
      hash = (Math.imul(hash, 0x9e3779b1) ^ (this.tokens[i] ?? 0)) >>> 0;
    return Math.imul(hash, 0x85ebca6b) >>> Math.clz32(this.latest.length - 1);
  }

  private commonBefore(a: number, b: number): number {
    const most = Math.min(a, LONGEST_MATCH);
    let n = 0;
    while (n < most && this.tokens[a - 1 - n] === this.tokens[b - 1 - n]) n++;
    return n;
  }
}

/** A power of two, with room for the answer's places. */
function tableSize(nTokens: number): number {
  return 2 ** Math.ceil(Math.log2(nTokens + 512));
}
