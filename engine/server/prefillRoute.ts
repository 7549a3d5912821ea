/** POST /tidepool/prefill: a prompt computed in idle time, its other files kept in the cache. */
import type { PrefillResponse } from "../protocol/api.ts";
import type { Generations } from "./generate.ts";
import type { PrefillBody } from "./schemas.ts";

/** Answers when the prompt is computed; its progress is in the `activity` events. Closing the request ends it. */
export async function answerPrefill(
  generations: Generations,
  body: PrefillBody,
  request: Request,
): Promise<Response> {
  const { input_prefix: prefix, input_suffix: suffix, input_extra: extra, filename } = body;
  const input = {
    prompt: { kind: "infill", parts: { prefix, suffix, extra, filename, heal: true } },
    maxTokens: 0,
    sampling: { temperature: 0, topK: 0, topP: 1, seed: 0 },
    stop: [],
    priority: "prefill",
    nTop: 0,
    ...(body.resident !== undefined && { resident: body.resident }),
  } as const;
  const startedAt = performance.now();
  const { result } = await generations.whole(input, request.signal);
  const answer: PrefillResponse = {
    tokens: result.promptTokens,
    tokens_cached: result.cachedTokens,
    ms: performance.now() - startedAt,
  };
  return Response.json(answer);
}
