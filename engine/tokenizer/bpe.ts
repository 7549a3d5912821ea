/** Byte-pair merging of one word: the lowest rank first, leftmost among equals. */

/** Ranks of all merges of a vocabulary. */
export class MergeTable {
  /** left * nTokens + right → rank. */
  private readonly ranks = new Map<number, number>();
  private readonly merged: number[] = [];
  private readonly nTokens: number;

  constructor(nTokens: number) {
    this.nTokens = nTokens;
  }

  /** Adds the merge with the next rank; of equal pairs the first counts. */
  add(left: number, right: number, result: number): void {
    const key = left * this.nTokens + right;
    if (!this.ranks.has(key)) this.ranks.set(key, this.merged.length);
    this.merged.push(result);
  }

  /** Rank of a pair, or -1. */
  rank(left: number, right: number): number {
    return this.ranks.get(left * this.nTokens + right) ?? -1;
  }

  /** The token that the merge of `rank` makes. */
  result(rank: number): number {
    return this.merged[rank] ?? -1;
  }
}

/** Heap keys are rank * POSITIONS + position, exact in a double for 2^27 merges. */
const POSITIONS = 2 ** 26;

/**
 * Merges `symbols` (the tokens of single bytes) until no pair has a rank.
 * Takes O(n log n), so a word of a megabyte is no trap. Throws RangeError beyond 2^26 symbols.
 */
export function mergeWord(symbols: readonly number[], merges: MergeTable): number[] {
  const n = symbols.length;
  if (n >= POSITIONS)
    throw new RangeError(`expected a word of fewer than ${POSITIONS} bytes, found ${n}`);
  const token = Int32Array.from(symbols);
  const next = Int32Array.from(symbols, (_, i) => i + 1);
  const previous = Int32Array.from(symbols, (_, i) => i - 1);
  const heap = new MinHeap();
  const rankAt = (i: number) => {
    const j = next[i] ?? n;
    return j >= n ? -1 : merges.rank(token[i] ?? -1, token[j] ?? -1);
  };
  const offer = (i: number) => {
    const rank = rankAt(i);
    if (rank >= 0) heap.push(rank * POSITIONS + i);
  };
  for (let i = 0; i + 1 < n; i++) offer(i);
  for (let key = heap.pop(); key !== undefined; key = heap.pop()) {
    const i = key % POSITIONS;
    const rank = Math.floor(key / POSITIONS);
    // A key is stale when its left symbol was merged away, or its pair has changed since it was offered.
    if (token[i] === -1 || rankAt(i) !== rank) continue;
    const right = next[i] ?? n;
    token[i] = merges.result(rank);
    token[right] = -1;
    const after = next[right] ?? n;
    next[i] = after;
    if (after < n) previous[after] = i;
    const before = previous[i] ?? -1;
    if (before >= 0) offer(before);
    offer(i);
  }
  return [...token.filter((id) => id !== -1)];
}

class MinHeap {
  private readonly keys: number[] = [];

  push(key: number): void {
    const keys = this.keys;
    let at = keys.length;
    keys.push(key);
    while (at > 0) {
      const up = (at - 1) >> 1;
      const parent = keys[up] ?? 0;
      if (parent <= key) break;
      keys[at] = parent;
      at = up;
    }
    keys[at] = key;
  }

  pop(): number | undefined {
    const keys = this.keys;
    const top = keys[0];
    const last = keys.pop();
    if (last === undefined || keys.length === 0) return top;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= keys.length) break;
      if (child + 1 < keys.length && (keys[child + 1] ?? 0) < (keys[child] ?? 0)) child++;
      const smaller = keys[child] ?? 0;
      if (smaller >= last) break;
      keys[at] = smaller;
      at = child;
    }
    keys[at] = last;
    return top;
  }
}
