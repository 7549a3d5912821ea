// Counts how often copied tokens are right while real files are typed: the table of src/completion/copies/rightness.json.
import { continuation, type Step } from "../completion/copies/continuation.ts";
import { cellOf, N_COLUMNS, N_ROWS } from "../completion/copies/rightness.ts";
import { Copying } from "../completion/copying.ts";
import { siteOf } from "../completion/documentSnapshot.ts";
import { RelatedTexts } from "./relatedTexts.ts";
import type { ReplaySession } from "./sessions.ts";

interface Count {
  right: number;
  all: number;
}

/** A column counts as much as so many cases of its whole row, so that one with few cases is not taken at its word. */
const ROW_CASES = 20;
const NAME_CHARACTER = /[\p{L}\p{N}_$]/u;

/** For every stage the share of right steps, by row and column of `cellOf`. */
export async function countCopies(
  sessions: readonly ReplaySession[],
): Promise<Record<string, number[][]>> {
  const counts: Record<string, Count[][]> = {};
  const related = new RelatedTexts();
  for (const session of sessions) {
    const copying = new Copying();
    await copying.learn(await related.of(session));
    for (let at = 0; at < session.typed.length; at++) countAt(session, at, copying, counts);
  }
  return Object.fromEntries(
    Object.entries(counts).map(([stage, rows]) => [stage, rows.map(shares)]),
  );
}

function countAt(
  { filename, before, typed, after }: ReplaySession,
  at: number,
  copying: Copying,
  counts: Record<string, Count[][]>,
): void {
  const prefix = before + typed.slice(0, at);
  const around = copying.surroundings(
    siteOf({ filename, text: prefix + after, offset: prefix.length }),
  );
  let wanted = typed.slice(at) + after;
  for (const step of continuation(around)) {
    const isRight = startsWithToken(wanted, step.text);
    count(counts, step, around.start.length, isRight);
    if (!isRight) return;
    wanted = wanted.slice(step.text.length);
  }
}

/** A name that goes on in `wanted` is another name. */
function startsWithToken(wanted: string, token: string): boolean {
  const isName = NAME_CHARACTER.test(token.at(-1) ?? "");
  return wanted.startsWith(token) && !(isName && NAME_CHARACTER.test(wanted.charAt(token.length)));
}

function count(
  counts: Record<string, Count[][]>,
  step: Step,
  startLength: number,
  isRight: boolean,
): void {
  const { stage, row, column } = cellOf(step, startLength);
  counts[stage] ??= Array.from({ length: N_ROWS }, () =>
    Array.from({ length: N_COLUMNS }, () => ({ right: 0, all: 0 })),
  );
  const cell = counts[stage][row]?.[column];
  if (!cell) return;
  cell.all++;
  if (isRight) cell.right++;
}

function shares(row: readonly Count[]): number[] {
  const right = row.reduce((sum, cell) => sum + cell.right, 0);
  const all = row.reduce((sum, cell) => sum + cell.all, 0);
  const whole = (right + 1) / (all + 2);
  return row.map((cell) => round((cell.right + ROW_CASES * whole) / (cell.all + ROW_CASES)));
}

function round(share: number): number {
  return Math.round(share * 1000) / 1000;
}
