// One completion for a program that asks once: the same request and the same cuts as in the editor.
import type { ExtraChunk, InfillResponse } from "../../engine/protocol/api.ts";
import type { EngineApi } from "../engineClient/engineApi.ts";
import { bestGuess, resultAt, resultOfGuess } from "./answerResult.ts";
import { modeOf } from "./completionMode.ts";
import type { CompletionResult } from "./completionResult.ts";
import { Copying } from "./copying.ts";
import type { CursorSyntax } from "./cursorSyntax.ts";
import { type DocumentSnapshot, siteOf } from "./documentSnapshot.ts";
import { Generation } from "./generation.ts";
import { leastSure } from "./surePart.ts";

export type OneCompletion =
  | { kind: "answered"; result: CompletionResult; response: InfillResponse }
  | { kind: "failed"; message: string };

export interface OneQuery {
  snapshot: DocumentSnapshot;
  /** Other files for the prompt. */
  extra: readonly ExtraChunk[];
  /** Texts of files that are like this one, to copy from. */
  related: readonly string[];
  maxTokens: number;
  syntax: CursorSyntax;
}

/**
 * What the editor shows at this place when it is asked for the first time, or, where it would show nothing because nothing
 * is sure enough, the best guess. The model is asked even where a copy needs none.
 */
export async function completeOnce(engine: EngineApi, query: OneQuery): Promise<OneCompletion> {
  const { snapshot, extra, related, maxTokens, syntax } = query;
  const site = siteOf(snapshot);
  const copyMode = modeOf(site, "auto");
  const copying = new Copying();
  await copying.learn(related);
  const sure = leastSure(0);
  const guess = copying.guess(site, sure, copyMode === "multi");
  const copied = guess && resultOfGuess(guess, site, copyMode);
  const scope = await syntax.scopeAt(site);
  const end = await new Generation(
    {
      site,
      mode: modeOf(site, "auto", scope),
      parts: { suffix: site.suffix, extra },
      maxTokens,
      stopEarly: false,
      priority: "completion",
      scope,
      syntax,
    },
    engine,
  ).end;
  if (end.kind === "answered" && end.response) {
    const { answer, response } = end;
    const shown = bestGuess((least) => resultAt(answer, site, least), copied, sure);
    return { kind: "answered", result: shown.result, response };
  }
  return {
    kind: "failed",
    message: end.kind === "failed" ? end.message : "the request was cancelled",
  };
}
