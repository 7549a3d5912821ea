/** POST /infill: llama.cpp's form. */
import type { GenerationInput } from "../engine.ts";
import type { InfillResponse, StopType } from "../protocol/api.ts";
import type { FinishReason, GeneratedToken, GenerationResult } from "../scheduler/request.ts";
import { eventStream } from "./eventStream.ts";
import type { Generations } from "./generate.ts";
import { errorBody } from "./httpErrors.ts";
import type { InfillBody } from "./schemas.ts";

const stopTypes: Record<FinishReason, StopType> = {
  eos: "eos",
  limit: "limit",
  word: "word",
  cancelled: "none",
};

/** Answers a checked body: whole, or as a stream whose last event holds the whole text again with `stop: true`. */
export async function answerInfill(
  generations: Generations,
  model: string,
  body: InfillBody,
  request: Request,
) {
  if (!body.stream) {
    const { text, tokens, result } = await generations.whole(inputOf(body), request.signal);
    return Response.json(finalEvent(model, text, tokens, result));
  }
  return eventStream(request, (sink) => {
    let text = "";
    const all: GeneratedToken[] = [];
    return generations.start(inputOf(body), (event) => {
      if (event.type === "error") sink.send(errorBody(event.code, event.message), "error");
      else text += event.text;
      if (event.type === "delta") {
        all.push(...event.tokens);
        sink.send({ content: event.text, tokens: event.tokens.map((t) => t.id), stop: false });
        return;
      }
      if (event.type === "done") sink.send(finalEvent(model, text, all, event.result));
      sink.end();
    });
  });
}

function inputOf(body: InfillBody): GenerationInput {
  const { input_prefix: prefix, input_suffix: suffix, input_extra: extra, filename } = body;
  return {
    prompt: { kind: "infill", parts: { prefix, suffix, extra, filename } },
    maxTokens: body.n_predict,
    sampling: {
      temperature: body.temperature,
      topK: body.top_k,
      topP: body.top_p,
      seed: body.seed,
    },
    stop: body.stop,
    priority: body.priority,
    nTop: 0,
  };
}

function finalEvent(
  model: string,
  content: string,
  tokens: readonly GeneratedToken[],
  r: GenerationResult,
): InfillResponse {
  return {
    content,
    stop: true,
    stop_type: stopTypes[r.finish],
    model,
    tokens: tokens.map((t) => t.id),
    logprobs: tokens.map((t) => t.logProb),
    tokens_predicted: tokens.length,
    tokens_evaluated: r.promptTokens,
    tokens_cached: r.cachedTokens,
    timings: { queue_ms: r.queueMs, prompt_ms: r.promptMs, predicted_ms: r.predictedMs },
  };
}
