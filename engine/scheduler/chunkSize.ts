/** How many prompt tokens a step may hold so that it stays short: learnt from the steps before. */

/** A keystroke waits for at most the step that runs, yet a prompt is done sooner in large steps: a step expands the keys of the blocks before it, and reads weights. */
const TARGET_MS = 32;
/** Of a step that reads so much more at a time that it is worth the wait. */
const MOST_MS = 2 * TARGET_MS;
const WORTH = 1.5;
const FIRST = 128;
/** Steps after which the next larger size is tried again, unless it is known to take long: a machine that was busy is not for ever. */
const RETRY = 100;
const RETRY_MS = 4 * TARGET_MS;
/** A cache block: keys of a block that is filled by two steps are expanded in both. */
const ROUND = 64;

/** Sizes for a model whose steps take time in proportion to their tokens. */
export function evenStepSizes(largest: number): number[] {
  const sizes = [32];
  for (let size = ROUND; size < largest; size += ROUND) sizes.push(size);
  return [...sizes.filter((size) => size < largest), largest];
}

export class ChunkSize {
  private readonly sizes: readonly number[];
  /** Milliseconds of a step of each size; NaN: not seen yet. */
  private readonly ms: number[];
  /** Steps since each size was seen. */
  private readonly unseen: number[];

  /** sizes: those to choose from, ascending. */
  constructor(sizes: readonly number[]) {
    this.sizes = sizes;
    this.ms = sizes.map(() => Number.NaN);
    this.unseen = sizes.map(() => 0);
  }

  /** Tokens for the next step. */
  get tokens(): number {
    const best = this.ms.every(Number.isNaN) ? this.first() : this.best();
    const next = best + 1;
    const isSlow = (this.ms[next] ?? 0) > RETRY_MS;
    const isForgotten = (this.unseen[next] ?? 0) > RETRY && !isSlow;
    return this.sizes[isForgotten ? next : best] ?? FIRST;
  }

  /**
   * Tells what a step took. A step has a fixed cost, so one between two sizes, as the last of a prompt may be, says
   * little and is ignored.
   */
  observe(nTokens: number, ms: number): void {
    const index = this.sizes.findIndex((size) => nTokens <= size && 8 * nTokens > 7 * size);
    if (index < 0 || !(ms > 0)) return;
    for (const i of this.unseen.keys())
      this.unseen[i] = i === index ? 0 : (this.unseen[i] ?? 0) + 1;
    const known = this.ms[index] ?? Number.NaN;
    this.ms[index] = Number.isNaN(known) ? ms : (known + ms) / 2;
    for (const other of this.ms.keys())
      if (this.isOutdated(other, index)) this.ms[other] = Number.NaN;
  }

  /** Whether it contradicts what was seen now: more tokens take no less time, and no more than in proportion. */
  private isOutdated(other: number, now: number): boolean {
    const [less, more] = [Math.min(other, now), Math.max(other, now)];
    const inProportion = ((this.ms[less] ?? 0) * (this.sizes[more] ?? 0)) / (this.sizes[less] ?? 1);
    const ms = this.ms[more] ?? 0;
    return ms < (this.ms[less] ?? 0) || ms > inProportion;
  }

  private best(): number {
    const quick = this.largestWithin(TARGET_MS);
    const more = this.largestWithin(MOST_MS);
    // One that was not seen is tried: then it is known whether its time is in proportion.
    const isWorthIt = Number.isNaN(this.ms[more]) || this.rate(more) >= WORTH * this.rate(quick);
    return isWorthIt ? more : quick;
  }

  private first(): number {
    const index = this.sizes.findIndex((size) => size >= FIRST);
    return index < 0 ? this.sizes.length - 1 : index;
  }

  /** The smallest size, if none takes as little. */
  private largestWithin(limitMs: number): number {
    return Math.max(
      0,
      this.sizes.findLastIndex((_, index) => this.expectedMs(index) <= limitMs),
    );
  }

  private rate(index: number): number {
    return (this.sizes[index] ?? 0) / this.expectedMs(index);
  }

  /** In proportion to the nearest size that was seen, where this one was not. */
  private expectedMs(index: number): number {
    const seen = [...this.ms.keys()].filter((i) => !Number.isNaN(this.ms[i]));
    const nearest = seen.reduce((best, i) =>
      Math.abs(i - index) < Math.abs(best - index) ? i : best,
    );
    return ((this.ms[nearest] ?? 0) * (this.sizes[index] ?? 0)) / (this.sizes[nearest] ?? 1);
  }
}
