import type { CursorSite } from "../documentSnapshot.ts";

/**
 * Whether nothing of a text would be seen on the cursor's line, on which nothing stands but blanks. There Tab indents, and
 * the editor would give the key to such a text all the same.
 */
export function beginsBelow(text: string, { lineBefore }: CursorSite): boolean {
  const [first = ""] = text.split("\n", 1);
  return !/\S/.test(lineBefore) && !/\S/.test(first);
}
