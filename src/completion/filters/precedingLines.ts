import type { Filter } from "./filter.ts";

/** Shorter texts, such as a closing bracket, follow themselves in good code too. */
const SHORTEST = 4;

/** Nothing, when the text only says again the lines directly above the cursor. */
export const precedingLines: Filter = (text, { site }) => {
  if (/\S/.test(site.lineBefore) || text.trim().length < SHORTEST) return text;
  const above = site.prefix.slice(0, site.prefix.length - site.lineBefore.length).trimEnd();
  const said = (site.lineBefore + text).trimEnd();
  return above === said || above.endsWith(`\n${said}`) ? "" : text;
};
