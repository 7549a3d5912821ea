import { tokensOf } from "../engineClient/connection.ts";
import type { EngineApi } from "../engineClient/engineApi.ts";
import type { CompletionResult } from "./completionResult.ts";
import type { Answer, GenerationPlan } from "./generation.ts";
import { infillRequest } from "./infillRequest.ts";
import { postProcess } from "./postProcess.ts";

const N_ALTERNATIVES = 3;

/** Different texts for one place, the most likely first; at least one result, which may say why nothing is shown. */
export async function otherAnswers(
  engine: EngineApi,
  plan: GenerationPlan,
  signal: AbortSignal,
): Promise<CompletionResult[]> {
  const { site, mode, parts, maxTokens, scope } = plan;
  const request = { ...infillRequest(site, mode, parts, maxTokens), n: N_ALTERNATIVES };
  const outcome = await engine.infill(request, { signal });
  if (outcome.kind === "cancelled") return [{ kind: "nothing", reason: "superseded" }];
  if (outcome.kind === "failed") {
    const { code, message } = outcome.failure;
    const reason = code === "not_ready" ? "engine-not-ready" : "engine-failed";
    return [{ kind: "nothing", reason, detail: message }];
  }
  const said = [outcome.response, ...(outcome.response.alternatives ?? [])];
  const answers = said.map((one): Answer => {
    const cutByLimit = one.stop_type === "limit";
    return { site, mode, text: one.content, tokens: tokensOf(one), cutByLimit, scope };
  });
  // Asked for by the user, who sees all of each and chooses: how sure the model is does not matter.
  const results = answers.map((answer) => postProcess(answer.text, answer));
  const shown = new Map<string, CompletionResult>();
  for (const result of results)
    if (result.kind === "shown" && !shown.has(result.text)) shown.set(result.text, result);
  return shown.size > 0 ? [...shown.values()] : results.slice(0, 1);
}
