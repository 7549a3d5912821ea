// How often copied tokens were right, counted over real files (scripts/countCopies.mjs).
import type { Step } from "./continuation.ts";
import counted from "./rightness.json" with { type: "json" };

/** Upper ends of the ranges of a step's share. */
const SHARES = [0.3, 0.5, 0.7, 0.9, 0.995];
/** Least numbers of agreeing tokens of the ranges. */
const AGREEING = [1, 2, 4, 8];
/** Of a step that was never counted. */
const UNKNOWN = 0.3;

const table: Readonly<Record<string, readonly (readonly number[])[]>> = counted;

/** Where a step stands in the table: its stage, and the row and column in the stage's part. */
export interface Cell {
  stage: Step["stage"];
  /** By agreeing tokens, then share. */
  row: number;
  /** By length of the name that was begun, or the places that are left. */
  column: number;
}

export const N_ROWS = (AGREEING.length + 1) * (SHARES.length + 1);
export const N_COLUMNS = 4;

/** `startLength`: of the name that was begun, in UTF-16 units. */
export function cellOf({ stage, agreeing, share, nPlaces }: Step, startLength: number): Cell {
  const agreeingRow = AGREEING.filter((least) => agreeing >= least).length;
  const shareRow = SHARES.filter((end) => share >= end).length;
  return {
    stage,
    row: agreeingRow * (SHARES.length + 1) + shareRow,
    column: stage === "rest" ? Math.min(3, startLength - 1) : Math.min(2, nPlaces - 1),
  };
}

/** Probability that a step is right when those before it are. */
export function rightness(step: Step, startLength: number): number {
  const { stage, row, column } = cellOf(step, startLength);
  return table[stage]?.[row]?.[column] ?? UNKNOWN;
}
