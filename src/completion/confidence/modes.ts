// How much is shown: three modes, each a band for the least probability of a text.

export type Mode = "quiet" | "balanced" | "eager";

interface Band {
  /** Least probability before anything was learned. */
  start: number;
  /** What was learned moves it between these two. */
  lowest: number;
  highest: number;
  /** Share of the shown text that its user is expected to take; who takes more is shown more. */
  taken: number;
}

export const BANDS: Readonly<Record<Mode, Band>> = {
  quiet: { start: 0.55, lowest: 0.4, highest: 0.8, taken: 0.5 },
  balanced: { start: 0.33, lowest: 0.2, highest: 0.6, taken: 0.35 },
  eager: { start: 0.18, lowest: 0.08, highest: 0.4, taken: 0.2 },
};
