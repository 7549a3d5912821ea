/** What a step of several tokens costs against one of a single token: learnt from the steps of this model on this device. */

/** Before anything is measured: tidepool-mini on the CPU (1.3 for 2 tokens, 2.8 for 8, 5 for 16). */
const GUESS = { first: 1.3, more: 0.28 };
/** Steps that each point of the guess counts for. */
const GUESS_WEIGHT = 1;
/** What is known of a step fades with each later one. */
const KEEP = 0.95;
/** And, slower, with each step whose draft was not worth it: a wrong figure must not stay for ever. */
const KEEP_UNUSED = 0.99;
/** One step that took very long, because something else ran, is no measurement. */
const MOST_SURPRISE = 3;
const ONE_TOKEN_SHARE = 0.2;

/** Weighted sums over steps of two tokens and more: x = tokens - 2, y = the cost in steps of one token. */
interface Sums {
  weight: number;
  x: number;
  y: number;
  xx: number;
  xy: number;
}

/** Steps of 2 and of 16 tokens as guessed: two points of a line. */
const PRIOR = [0, 14].reduce(
  (sums, x) => added(sums, x, GUESS.first + GUESS.more * x, GUESS_WEIGHT),
  {
    ...{ weight: 0, x: 0, y: 0, xx: 0, xy: 0 },
  },
);

export class StepCost {
  private oneTokenMs: number | undefined;
  private seen: Sums = { weight: 0, x: 0, y: 0, xx: 0, xy: 0 };

  /** A step of `nTokens` in steps of one token: 1 for one; above, a line, since a device may have other kernels for several. */
  of(nTokens: number): number {
    if (nTokens <= 1) return 1;
    const [s, p] = [this.seen, PRIOR];
    const weight = s.weight + p.weight;
    const [x, y] = [(s.x + p.x) / weight, (s.y + p.y) / weight];
    const slope = ((s.xy + p.xy) / weight - x * y) / ((s.xx + p.xx) / weight - x * x);
    return Math.max(1, y + Math.max(0, slope) * (nTokens - 2 - x));
  }

  /** Tells what a step took that only decoded: a token of each sequence, and drafts. */
  observe(nTokens: number, ms: number): void {
    if (!(ms > 0)) return;
    if (nTokens === 1) {
      const before = this.oneTokenMs ?? ms;
      this.oneTokenMs = before + ONE_TOKEN_SHARE * (Math.min(ms, MOST_SURPRISE * before) - before);
      return;
    }
    if (this.oneTokenMs === undefined) return;
    const cost = Math.min(ms / this.oneTokenMs, MOST_SURPRISE * this.of(nTokens));
    this.seen = added(scaled(this.seen, KEEP), nTokens - 2, cost, 1);
  }

  /** Tells that a step could have had a draft, which was not worth it. */
  declined(): void {
    this.seen = scaled(this.seen, KEEP_UNUSED);
  }
}

function added(s: Sums, x: number, y: number, weight: number): Sums {
  return {
    weight: s.weight + weight,
    x: s.x + weight * x,
    y: s.y + weight * y,
    xx: s.xx + weight * x * x,
    xy: s.xy + weight * x * y,
  };
}

function scaled({ weight, x, y, xx, xy }: Sums, by: number): Sums {
  return { weight: weight * by, x: x * by, y: y * by, xx: xx * by, xy: xy * by };
}
