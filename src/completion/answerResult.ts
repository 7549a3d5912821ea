import type { CompletionResult } from "./completionResult.ts";
import type { CursorSite } from "./documentSnapshot.ts";
import { fitClosers } from "./filters/closers.ts";
import type { Answer } from "./generation.ts";
import { postProcess } from "./postProcess.ts";

/**
 * What is shown of an answer at `site`, which is the answer's own place or one further on in its text.
 * The text is always cut at the answer's own place, so that what is shown does not change under the user's typing.
 */
export function resultAt(answer: Answer, site: CursorSite): CompletionResult {
  const whole = postProcess(answer.text, { ...answer, site: answer.site });
  const typed = site.prefix.slice(answer.site.prefix.length);
  if (typed === "" || whole.kind === "nothing") return whole;
  const text = whole.text.replaceAll("\r\n", "\n");
  if (!text.startsWith(typed)) return { kind: "nothing", reason: "blank" };
  const rest = fitClosers(text.slice(typed.length), { ...answer, site });
  if (!/\S/.test(rest.text)) return { kind: "nothing", reason: "blank" };
  return {
    kind: "shown",
    text: rest.text.replaceAll("\n", site.eol),
    replaceLength: rest.replaceLength,
  };
}
