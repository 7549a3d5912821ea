/** When an engine that lost its device is started again, and when it is better left to the CPU: pure. */

/** Losses further apart than this have nothing to do with each other. */
const WINDOW_MS = 10 * 60_000;
/** Until the restarts after the first loss, and the second; at the next one the device is given up. */
const DELAYS_MS = [250, 2000] as const;

export class RestartPolicy {
  private readonly lostAt: number[] = [];

  /** What to do after a loss at `now`, in milliseconds of any clock: restart after so many, or give the device up. */
  lost(now: number): { afterMs: number } | "give up" {
    while (this.lostAt.length > 0 && now - (this.lostAt[0] ?? 0) > WINDOW_MS) this.lostAt.shift();
    const afterMs = DELAYS_MS[this.lostAt.length];
    this.lostAt.push(now);
    return afterMs === undefined ? "give up" : { afterMs };
  }
}
