// One completion for a program that asks once: the same request and the same cuts as in the editor.
import type { ExtraChunk, InfillResponse } from "../../engine/protocol/api.ts";
import type { EngineApi } from "../engineClient/engineApi.ts";
import { resultAt } from "./answerResult.ts";
import { modeOf } from "./completionMode.ts";
import type { CompletionResult } from "./completionResult.ts";
import { type DocumentSnapshot, siteOf } from "./documentSnapshot.ts";
import { Generation } from "./generation.ts";
import { leastSure } from "./surePart.ts";

export type OneCompletion =
  | { kind: "answered"; result: CompletionResult; response: InfillResponse }
  | { kind: "failed"; message: string };

export async function completeOnce(
  engine: EngineApi,
  snapshot: DocumentSnapshot,
  extra: readonly ExtraChunk[],
  maxTokens: number,
): Promise<OneCompletion> {
  const site = siteOf(snapshot);
  const end = await new Generation(
    {
      site,
      mode: modeOf(site, "auto"),
      parts: { suffix: site.suffix, extra },
      maxTokens,
      stopEarly: false,
      priority: "completion",
    },
    engine,
  ).end;
  if (end.kind === "answered" && end.response) {
    return {
      kind: "answered",
      result: resultAt(end.answer, site, leastSure(0)).result,
      response: end.response,
    };
  }
  return {
    kind: "failed",
    message: end.kind === "failed" ? end.message : "the request was cancelled",
  };
}
