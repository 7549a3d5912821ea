import type { CompletionResult } from "./completionResult.ts";
import type { CursorSite } from "./documentSnapshot.ts";
import { fitClosers } from "./filters/closers.ts";
import type { Answer } from "./generation.ts";
import { postProcess } from "./postProcess.ts";
import { sureEnd } from "./surePart.ts";

/**
 * What is shown of an answer at `site`, which is the answer's own place or one further on in its text.
 * The text is always cut at the answer's own place, so that what is shown does not change under the user's typing;
 * how much of it is sure is decided here, where the text up to the cursor is known to be right.
 */
export function resultAt(answer: Answer, site: CursorSite): CompletionResult {
  const whole = postProcess(answer.text, { ...answer, site: answer.site });
  if (whole.kind === "nothing") return whole;
  const typed = site.prefix.slice(answer.site.prefix.length);
  const text = whole.text.replaceAll("\r\n", "\n");
  if (!text.startsWith(typed)) return { kind: "nothing", reason: "blank" };
  const rest = text.slice(typed.length);
  if (!/\S/.test(rest)) return { kind: "nothing", reason: "blank" };
  const sure = text.slice(typed.length, endOfSure(answer, text, typed.length)).trimEnd();
  if (sure === "") return { kind: "nothing", reason: "unsure" };
  if (typed === "" && sure === text) return whole;
  const fitted = fitClosers(sure, { ...answer, site });
  if (!/\S/.test(fitted.text)) return { kind: "nothing", reason: "blank" };
  return {
    kind: "shown",
    text: fitted.text.replaceAll("\n", site.eol),
    replaceLength: fitted.replaceLength,
  };
}

/** Filters mostly cut the end; of a text that they changed elsewhere the tokens' places are those of the answer. */
function endOfSure(answer: Answer, text: string, from: number): number {
  let shift = 0;
  const start = Math.min(...[answer.text.search(/\S/), text.search(/\S/)].filter((at) => at >= 0));
  if (!answer.text.startsWith(text.slice(0, start + 1)))
    shift = answer.text.search(/\S/) - text.search(/\S/);
  const end = sureEnd(answer.text, answer.tokens, Math.max(0, from + shift));
  return Math.max(from, end - shift);
}
