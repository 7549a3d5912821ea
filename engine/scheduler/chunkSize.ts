/** How many prompt tokens a step may hold so that it stays short: learnt from the steps before. */

const TARGET_MS = 30;
const SMALLEST = 32;
const FIRST = 128;
const ROUND = 32;

export class ChunkSize {
  private readonly largest: number;
  private tokensPerMs = FIRST / TARGET_MS;

  constructor(largest: number) {
    this.largest = largest;
  }

  /** Tokens for the next step. */
  get tokens(): number {
    const wanted = Math.floor((this.tokensPerMs * TARGET_MS) / ROUND) * ROUND;
    return Math.min(this.largest, Math.max(SMALLEST, wanted));
  }

  /** Tells what a step took. Small steps say little about the rate of large ones and are ignored. */
  observe(nTokens: number, ms: number): void {
    if (nTokens < SMALLEST || !(ms > 0)) return;
    this.tokensPerMs = 0.5 * this.tokensPerMs + (0.5 * nTokens) / ms;
  }
}
