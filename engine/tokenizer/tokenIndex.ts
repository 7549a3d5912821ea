/** Finds the tokens with which a given text may begin, for generations that must continue half a word. */
import type { Tokenizer } from "./tokenizer.ts";

export class TokenIndex {
  private readonly tokenizer: Tokenizer;
  /** Ordinary tokens as byte strings (one UTF-16 unit per byte), sorted, with their ids. Built when first needed. */
  private sorted: { keys: string[]; ids: Int32Array } | undefined;

  constructor(tokenizer: Tokenizer) {
    this.tokenizer = tokenizer;
  }

  /**
   * Ids of all tokens that agree with `bytes`: those that begin with all of them, and those that they begin with.
   * In no particular order; never empty for at least one byte, since every byte is a token.
   */
  agreeing(bytes: Uint8Array): number[] {
    const { keys, ids } = this.index();
    const wanted = byteString(bytes);
    const found: number[] = [];
    for (let n = 1; n < wanted.length; n++) {
      const key = wanted.slice(0, n);
      for (let at = lowerBound(keys, key); keys[at] === key; at++) found.push(ids[at] ?? 0);
    }
    for (let at = lowerBound(keys, wanted); keys[at]?.startsWith(wanted) === true; at++)
      found.push(ids[at] ?? 0);
    return found;
  }

  private index() {
    if (this.sorted !== undefined) return this.sorted;
    const entries: { key: string; id: number }[] = [];
    for (let id = 0; id < this.tokenizer.nTokens; id++) {
      if (this.tokenizer.isSpecial(id)) continue;
      entries.push({ key: byteString(this.tokenizer.tokenBytes(id)), id });
    }
    entries.sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : a.id - b.id));
    const ids = Int32Array.from(entries, ({ id }) => id);
    this.sorted = { keys: entries.map(({ key }) => key), ids };
    return this.sorted;
  }
}

function byteString(bytes: Uint8Array): string {
  return String.fromCharCode(...bytes);
}

/** Index of the first key that is not below `key`. */
function lowerBound(keys: readonly string[], key: string): number {
  let low = 0;
  let high = keys.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((keys[middle] ?? "") < key) low = middle + 1;
    else high = middle;
  }
  return low;
}
