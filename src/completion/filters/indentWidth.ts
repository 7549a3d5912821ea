/** Width in columns of a tab where only the order of widths matters. */
const TAB_COLUMNS = 8;

/** Columns of white space that `line` begins with. */
export function indentWidth(line: string): number {
  let width = 0;
  for (const char of line) {
    if (char === " ") width++;
    else if (char === "\t") width += TAB_COLUMNS;
    else break;
  }
  return width;
}

/** The last line of `text` that is not blank, or undefined. */
export function lastLineWithText(text: string): string | undefined {
  return text.split("\n").findLast((line) => /\S/.test(line));
}
