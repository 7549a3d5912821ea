import type { Filter } from "./filter.ts";

/** Drops the last line of several when the token limit may have cut it in the middle. */
export const unfinishedLine: Filter = (text, { cutByLimit, mode }) => {
  const lastStart = text.lastIndexOf("\n");
  return cutByLimit && mode === "multi" && lastStart >= 0 ? text.slice(0, lastStart) : text;
};
