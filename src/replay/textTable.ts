// Reports as text for a terminal.

/** Lines of a table with a heading; the first `nTexts` columns are words, the others figures. */
export function table(
  head: readonly string[],
  rows: readonly (readonly string[])[],
  nTexts: number,
): string[] {
  const all = [head, ...rows];
  const widths = head.map((_, i) => Math.max(...all.map((row) => row[i]?.length ?? 0)));
  const isText = (i: number) => i < nTexts;
  return all.map((row) =>
    row
      .map((cell, i) => (isText(i) ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0)))
      .join("  ")
      .trimEnd(),
  );
}

export function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}
