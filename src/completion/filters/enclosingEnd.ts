import { type OpenBracket, withoutLiterals } from "../cursorSyntax.ts";
import type { Filter, FilterSite } from "./filter.ts";

const CLOSERS: Record<string, string> = { "(": ")", "[": "]", "{": "}" };

/** Ends the text before it closes a bracket that the document closes already, on a later line. */
export const enclosingEnd: Filter = (text, at) => {
  const end = enclosingEndOf(text, at);
  return end === undefined ? text : text.slice(0, end).trimEnd();
};

/** Offset of the bracket that closes what encloses the cursor and is closed behind it; undefined when there is none. */
function enclosingEndOf(text: string, { site, scope, literals }: FilterSite): number | undefined {
  // Closers on the cursor's own line are fitted to the text, which may go on behind them.
  if (scope === undefined || scope.within !== "code" || /\S/.test(site.lineAfter)) return undefined;
  const code = withoutLiterals(text, literals);
  const outside: OpenBracket[] = [...scope.brackets];
  const inside: string[] = [];
  for (let i = 0; i < code.length; i++) {
    const char = code.charAt(i);
    const closer = CLOSERS[char];
    if (closer !== undefined) inside.push(closer);
    else if (char === inside.at(-1)) inside.pop();
    else if (inside.length === 0 && char === outside[0]?.closer && outside.shift()?.closed)
      return i;
  }
  return undefined;
}
