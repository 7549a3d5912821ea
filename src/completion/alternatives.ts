import { tokensOf } from "../engineClient/connection.ts";
import type { EngineApi } from "../engineClient/engineApi.ts";
import { bestGuess, resultAt, type Weighed } from "./answerResult.ts";
import type { CompletionResult } from "./completionResult.ts";
import type { Answer, GenerationPlan } from "./generation.ts";
import { infillRequest } from "./infillRequest.ts";
import { postProcess } from "./postProcess.ts";
import type { CompletionTrace } from "./trace/completionTrace.ts";

const N_ALTERNATIVES = 3;

/** What the controller knows beside the plan. */
export interface Beside {
  /** Least probability of what is shown while typing. */
  sure: number;
  /** What the file and those like it say, as far as it is so sure. */
  copied: Weighed | undefined;
  trace: CompletionTrace;
}

/**
 * Different texts for one place: first the best guess, as far as it is likely, then all that the model says; at least one
 * result, which may say why nothing is shown.
 */
export async function otherAnswers(
  engine: EngineApi,
  plan: GenerationPlan,
  signal: AbortSignal,
  { sure, copied, trace }: Beside,
): Promise<CompletionResult[]> {
  const { site, mode, parts, maxTokens, scope } = plan;
  const request = { ...infillRequest(site, mode, parts, maxTokens), n: N_ALTERNATIVES };
  const startedAt = performance.now();
  const outcome = await engine.infill(request, { signal });
  const endedAt = performance.now();
  trace.generation = { request, tokens: [], startedAt, endedAt, ending: "aborted" };
  if (outcome.kind === "cancelled") return [{ kind: "nothing", reason: "superseded" }];
  if (outcome.kind === "failed") {
    trace.generation.ending = "failed";
    const { code, message } = outcome.failure;
    const reason = code === "not_ready" ? "engine-not-ready" : "engine-failed";
    return [{ kind: "nothing", reason, detail: message }];
  }
  const { response } = outcome;
  const { tokens_evaluated: tokens, tokens_cached: cached, timings } = response;
  trace.generation = {
    request,
    tokens: tokensOf(response),
    startedAt,
    firstTokenAt: endedAt - timings.predicted_ms,
    endedAt,
    prompt: { tokens, cached, queueMs: timings.queue_ms, promptMs: timings.prompt_ms },
    ending: response.stop_type,
  };
  const said = [response, ...(response.alternatives ?? [])];
  const answers = said.map((one): Answer => {
    const cutByLimit = one.stop_type === "limit";
    return { site, mode, text: one.content, tokens: tokensOf(one), cutByLimit, scope };
  });
  const steps = trace.filtering("model", response.content, tokensOf(response));
  // The user sees all of each and chooses: how sure the model is of the others does not matter.
  const whole = answers.map((answer, i) =>
    postProcess(answer.text, answer, i === 0 ? steps : undefined),
  );
  const [first] = answers;
  const guess = first && bestGuess((least) => resultAt(first, site, least), copied, sure);
  trace.source = guess?.isCopy ? "copy" : "model";
  const results = guess ? [guess.result, ...whole] : whole;
  const shown = new Map<string, CompletionResult>();
  for (const result of results)
    if (result.kind === "shown" && !shown.has(result.text)) shown.set(result.text, result);
  return shown.size > 0 ? [...shown.values()] : whole.slice(0, 1);
}
