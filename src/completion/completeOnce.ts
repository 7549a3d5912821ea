// One completion for a program that asks once: the same request and the same cuts as in the editor.
import type { ExtraChunk, InfillResponse } from "../../engine/protocol/api.ts";
import type { EngineApi } from "../engineClient/engineApi.ts";
import { needsNoModel, resultAt, resultOfGuess, worthMore } from "./answerResult.ts";
import { modeOf } from "./completionMode.ts";
import type { CompletionResult } from "./completionResult.ts";
import { Copying } from "./copying.ts";
import { type DocumentSnapshot, siteOf } from "./documentSnapshot.ts";
import { Generation } from "./generation.ts";
import { leastSure } from "./surePart.ts";

export type OneCompletion =
  | { kind: "answered"; result: CompletionResult; response: InfillResponse }
  | { kind: "failed"; message: string };

/** What is known of the files around. */
export interface OtherFiles {
  /** For the prompt. */
  extra: readonly ExtraChunk[];
  /** Texts to copy from. */
  related: readonly string[];
}

/** What the editor shows at this place when it is asked for the first time. The model is asked even where a copy needs none. */
export async function completeOnce(
  engine: EngineApi,
  snapshot: DocumentSnapshot,
  { extra, related }: OtherFiles,
  maxTokens: number,
): Promise<OneCompletion> {
  const site = siteOf(snapshot);
  const mode = modeOf(site, "auto");
  const sure = leastSure(0);
  const copying = new Copying();
  await copying.learn(related);
  const guess = copying.guess(site, sure, mode === "multi");
  const copied = guess && resultOfGuess(guess, site, mode);
  const end = await new Generation(
    {
      site,
      mode,
      parts: { suffix: site.suffix, extra },
      maxTokens,
      stopEarly: false,
      priority: "completion",
    },
    engine,
  ).end;
  if (end.kind === "answered" && end.response) {
    const shown = needsNoModel(copied)
      ? copied
      : worthMore(resultAt(end.answer, site, sure), copied);
    return { kind: "answered", result: shown.result, response: end.response };
  }
  return {
    kind: "failed",
    message: end.kind === "failed" ? end.message : "the request was cancelled",
  };
}
