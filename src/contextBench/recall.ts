// What a context holds of the names that a masked position asks for.
import type { MaskedPosition } from "./positions.ts";
import type { BenchRepository } from "./repository.ts";

export interface Recall {
  /** Shares of the position's names, 0 to 1. */
  identifiers: number;
  definitions: number;
}

/**
 * A name counts as identifier when it stands in the context, and as definition when one of its defining lines in
 * another file does, whatever blanks stand around it.
 */
export function recallOf(
  { definitions }: BenchRepository,
  { path, names }: Pick<MaskedPosition, "path" | "names">,
  context: string,
): Recall {
  const words = new Set(context.match(/[A-Za-z_$][\w$]*/g));
  const lines = new Set(context.split("\n").map((line) => line.trim()));
  let identifiers = 0;
  let defined = 0;
  for (const name of names) {
    if (!words.has(name)) continue;
    identifiers++;
    for (const [definingPath, found] of definitions.get(name) ?? []) {
      if (definingPath === path) continue;
      if ([...found].some((line) => lines.has(line))) {
        defined++;
        break;
      }
    }
  }
  return { identifiers: identifiers / names.length, definitions: defined / names.length };
}
