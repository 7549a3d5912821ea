/** Milliseconds with two decimals. */
export function rounded(ms: number): number {
  return Math.round(ms * 100) / 100;
}
