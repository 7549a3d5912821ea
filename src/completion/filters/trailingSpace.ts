import type { Filter } from "./filter.ts";

/** Drops white space at line ends; before code on the same line, one space between words stays. */
export const trailingSpace: Filter = (text, { site }) => {
  const lines = text.split("\n");
  const last = lines.pop() ?? "";
  const inside = lines.map((line) => line.trimEnd());
  if (/^\S/.test(site.lineAfter) && lines.length === 0) return last;
  return [...inside, last.trimEnd()].join("\n").trimEnd();
};
