// Whether a completion is asked for at a cursor, and over how many lines.
import type { CursorScope } from "./cursorSyntax.ts";
import type { CursorSite } from "./documentSnapshot.ts";
import { indentWidth } from "./filters/indentWidth.ts";

export type CompletionMode = "single" | "multi";

/** `auto` decides by the cursor's line; the others force it. */
export type MultilineSetting = "auto" | "always" | "never";

/** `typing`: the editor asks on its own. `command`: the user, or a program, asks for this place. */
export type Trigger = "typing" | "command";

/** Closing brackets, quotes and ends of statements: what editors insert by themselves after the cursor. */
const CLOSERS_ONLY = /^[\s)\]}>"'`;,:]*$/;

/** Ends of a line after which an indented block follows, over the languages that the model knows. */
const BLOCK_OPENER = /(?:[{([]|=>|->|\b(?:do|then|else|begin))\s*$/;

/** A colon opens a block only after these words; elsewhere a value or a type follows it on the line. */
const COLON_OPENER =
  /^\s*(?:async\s+)?(?:def|class|if|elif|else|for|while|with|try|except|finally|match|case|default)\b.*:\s*$/;

const LINE_COMMENT = /^\s*(?:#(?!include|define|if|else|endif)|\/\/|--)/;

/** Whether text may be suggested here: in the middle of code a suggestion would push aside what stands there. */
export function acceptsCompletion(site: CursorSite, trigger: Trigger): boolean {
  return trigger === "command" || CLOSERS_ONLY.test(site.lineAfter);
}

/** How many lines are asked for: by the syntax around the cursor where it is known, else by the cursor's line. */
export function modeOf(
  site: CursorSite,
  setting: MultilineSetting,
  scope?: CursorScope,
): CompletionMode {
  if (setting === "never" || /\S/.test(site.lineAfter)) return "single";
  if (setting === "always") return "multi";
  const isMulti = scope ? holdsLines(site, scope) : looksLikeLines(site.lineBefore);
  return isMulti ? "multi" : "single";
}

function looksLikeLines(lineBefore: string): boolean {
  return !/\S/.test(lineBefore) || opensBlock(lineBefore);
}

/** Statements and parts of a literal come in lines; one argument, and the text of a string or comment, at a time. */
function holdsLines(site: CursorSite, { within, container, opens }: CursorScope): boolean {
  if (within !== "code") return false;
  if (!/\S/.test(site.lineBefore)) return container !== "list";
  return opens !== undefined && opens !== "list" && !isFilled(site);
}

/** Whether what the cursor's line opens has lines already. */
function isFilled({ suffix, lineAfter, lineBefore }: CursorSite): boolean {
  const next = /\S/.test(lineAfter) ? undefined : /^\s*\n([ \t]*\S.*)/.exec(suffix)?.[1];
  return next !== undefined && indentWidth(next) > indentWidth(lineBefore);
}

/** Whether an indented block is expected after `line`. */
export function opensBlock(line: string): boolean {
  return (BLOCK_OPENER.test(line) || COLON_OPENER.test(line)) && !LINE_COMMENT.test(line);
}
