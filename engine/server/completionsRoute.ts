/** POST /v1/completions: OpenAI's form; with `suffix` the model's infilling layout is used. */
import type { GenerationInput } from "../engine.ts";
import type { DraftCounts, FinishReason, GeneratedToken } from "../scheduler/request.ts";
import { eventStream } from "./eventStream.ts";
import type { Generated, Generations } from "./generate.ts";
import { errorBody } from "./httpErrors.ts";
import type { CompletionBody } from "./schemas.ts";

/** The `logprobs` of some tokens, or null when nobody asked for them. */
type Logprobs = (tokens: readonly GeneratedToken[]) => object | null;

const finishNames: Record<FinishReason, "stop" | "length"> = {
  eos: "stop",
  word: "stop",
  limit: "length",
  cancelled: "stop",
};

export async function answerCompletion(
  generations: Generations,
  model: string,
  body: CompletionBody,
  request: Request,
): Promise<Response> {
  const frame = {
    id: `cmpl-${crypto.randomUUID()}`,
    object: "text_completion",
    created: Math.floor(Date.now() / 1000),
    model,
  };
  const inputs = Array.from({ length: body.n }, (_, i) => inputOf(body, i));
  const logprobs: Logprobs = body.logprobs === undefined ? () => null : logprobsOf;
  if (body.stream) return streamed(generations, frame, inputs, request, logprobs);
  const all = await generations.wholeOfEach(inputs, request.signal);
  const choices = all.map(({ text, tokens, result }, index) => ({
    text,
    index,
    finish_reason: finishNames[result.finish],
    logprobs: logprobs(tokens),
  }));
  return Response.json({ ...frame, choices, usage: usageOf(all) });
}

function streamed(
  generations: Generations,
  frame: object,
  inputs: readonly GenerationInput[],
  request: Request,
  logprobs: Logprobs,
): Response {
  return eventStream(request, (sink) => {
    let nLeft = inputs.length;
    const end = () => {
      if (--nLeft > 0) return;
      sink.sendText("[DONE]");
      sink.end();
    };
    const cancels = inputs.map((input, index) =>
      generations.start(input, (event) => {
        if (event.type === "error") {
          sink.send(errorBody(event.code, event.message), "error");
          return end();
        }
        const part =
          event.type === "done"
            ? { finish_reason: finishNames[event.result.finish], logprobs: null }
            : { finish_reason: null, logprobs: logprobs(event.tokens) };
        sink.send({ ...frame, choices: [{ text: event.text, index, ...part }] });
        if (event.type === "done") end();
      }),
    );
    return () => {
      for (const cancel of cancels) cancel();
    };
  });
}

/** Choice `index` of n gets its own seed, so that n choices differ. */
function inputOf(body: CompletionBody, index: number): GenerationInput {
  const { prompt, suffix } = body;
  return {
    prompt:
      suffix === undefined
        ? { kind: "text", text: prompt }
        : {
            kind: "infill",
            parts: { prefix: prompt, suffix, filename: undefined, extra: [], heal: true },
          },
    maxTokens: body.max_tokens,
    sampling: { temperature: body.temperature, topK: 0, topP: body.top_p, seed: body.seed + index },
    stop: typeof body.stop === "string" ? [body.stop] : body.stop,
    priority: "completion",
    nTop: body.logprobs ?? 0,
  };
}

function logprobsOf(tokens: readonly GeneratedToken[]) {
  return {
    tokens: tokens.map((t) => t.text),
    token_logprobs: tokens.map((t) => t.logProb),
    top_logprobs: tokens.map(topLogprobs),
  };
}

/** By written form; of tokens that are written alike (parts of characters) the most likely counts. */
function topLogprobs({ top }: GeneratedToken): Record<string, number> {
  return Object.fromEntries(top.map((t) => [t.text, t.logProb] as const).reverse());
}

function usageOf(all: readonly Generated[]) {
  const prompt_tokens = all[0]?.result.promptTokens ?? 0;
  const completion_tokens = all.reduce((sum, { tokens }) => sum + tokens.length, 0);
  const sum = (of: (drafts: DraftCounts) => number) =>
    all.reduce((total, { result }) => total + of(result.drafts), 0);
  return {
    prompt_tokens,
    completion_tokens,
    total_tokens: prompt_tokens + completion_tokens,
    completion_tokens_details: {
      accepted_prediction_tokens: sum(({ accepted }) => accepted),
      rejected_prediction_tokens: sum(({ drafted, accepted }) => drafted - accepted),
    },
  };
}
