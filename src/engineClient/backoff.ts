/** First wait 250 ms, doubled each time, at most 8 s. */
const FIRST_MS = 250;
const LONGEST_MS = 8000;

/** Restarts in a row after which only the user starts it again. */
export const MAX_RESTARTS = 6;

/** Milliseconds to wait before restart number `attempt`, counted from 1. */
export function backoffMs(attempt: number): number {
  return Math.min(LONGEST_MS, FIRST_MS * 2 ** (attempt - 1));
}
