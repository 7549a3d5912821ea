/** POST /infill: llama.cpp's form. */
import { EngineError } from "../base/errors.ts";
import type { GenerationInput } from "../engine.ts";
import type { InfillPiece, InfillResponse, StopType } from "../protocol/api.ts";
import type {
  FinishReason,
  GeneratedToken,
  GenerationResult,
  PromptFigures,
} from "../scheduler/request.ts";
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

/**
 * Answers a checked body: whole, or as a stream whose last event holds the whole text again with `stop: true`.
 * Several answers are sent whole, in one event when a stream was asked for.
 */
export async function answerInfill(
  generations: Generations,
  model: string,
  body: InfillBody,
  request: Request,
) {
  if (!body.stream) return Response.json(await wholeAnswer(generations, model, body, request));
  if (body.n > 1) {
    const answer = await wholeAnswer(generations, model, body, request);
    return eventStream(request, (sink) => {
      sink.send(answer);
      sink.end();
      return () => undefined;
    });
  }
  return eventStream(request, (sink) => {
    let text = "";
    const all: GeneratedToken[] = [];
    return generations.start(inputOf(body), (event) => {
      if (event.type === "error") sink.send(errorBody(event.code, event.message), "error");
      else text += event.text;
      if (event.type === "delta") {
        all.push(...event.tokens);
        sink.send(piece(event.text, event.tokens, event.prompt));
        return;
      }
      if (event.type === "done") sink.send(finalEvent(model, text, all, event.result));
      sink.end();
    });
  });
}

async function wholeAnswer(
  generations: Generations,
  model: string,
  body: InfillBody,
  request: Request,
): Promise<InfillResponse> {
  const input = inputOf(body);
  const [first, ...others] = await generations.wholeOfEach(
    Array.from({ length: body.n }, (_, branch) => ({ ...input, branch })),
    request.signal,
  );
  if (first === undefined) throw new EngineError("internal", "expected an answer, found none");
  const answer = finalEvent(model, first.text, first.tokens, first.result);
  if (others.length === 0) return answer;
  const alternatives = others.map(({ text, tokens, result }) => ({
    content: text,
    stop_type: stopTypes[result.finish],
    logprobs: tokens.map((t) => t.logProb),
    texts: tokens.map((t) => t.text),
  }));
  return { ...answer, alternatives };
}

function inputOf(body: InfillBody): GenerationInput {
  const { input_prefix: prefix, input_suffix: suffix, input_extra: extra, filename, heal } = body;
  return {
    prompt: { kind: "infill", parts: { prefix, suffix, extra, filename, heal } },
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

function piece(
  content: string,
  tokens: readonly GeneratedToken[],
  { promptTokens, cachedTokens, queueMs, promptMs }: PromptFigures,
): InfillPiece {
  return {
    content,
    tokens_evaluated: promptTokens,
    tokens_cached: cachedTokens,
    tokens: tokens.map((t) => t.id),
    logprobs: tokens.map((t) => t.logProb),
    texts: tokens.map((t) => t.text),
    timings: { queue_ms: queueMs, prompt_ms: promptMs },
    stop: false,
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
    texts: tokens.map((t) => t.text),
    tokens_predicted: tokens.length,
    tokens_evaluated: r.promptTokens,
    tokens_cached: r.cachedTokens,
    timings: {
      ...{ queue_ms: r.queueMs, prompt_ms: r.promptMs, predicted_ms: r.predictedMs },
      ...{ draft_n: r.drafts.drafted, draft_n_accepted: r.drafts.accepted },
    },
  };
}
