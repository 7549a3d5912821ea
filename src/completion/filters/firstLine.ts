import type { Filter } from "./filter.ts";

/** In single-line mode, the first line alone. */
export const firstLine: Filter = (text, { mode }) => {
  const end = text.indexOf("\n");
  return mode === "single" && end >= 0 ? text.slice(0, end) : text;
};
