/** POST /v1/completions: OpenAI's form; with `suffix` the model's infilling layout is used. */
import type { GenerationInput } from "../engine.ts";
import type { FinishReason, GeneratedToken } from "../scheduler/request.ts";
import { eventStream } from "./eventStream.ts";
import type { Generated, Generations } from "./generate.ts";
import { errorBody } from "./httpErrors.ts";
import type { CompletionBody } from "./schemas.ts";

/** The written form of a token, for `logprobs`. */
export type TokenText = (id: number) => Promise<string>;

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
  textOf: TokenText,
): Promise<Response> {
  const frame = {
    id: `cmpl-${crypto.randomUUID()}`,
    object: "text_completion",
    created: Math.floor(Date.now() / 1000),
    model,
  };
  const inputs = Array.from({ length: body.n }, (_, i) => inputOf(body, i));
  if (body.stream) return streamed(generations, frame, inputs, request);
  const all = await Promise.all(inputs.map((input) => generations.whole(input, request.signal)));
  const choices = await Promise.all(
    all.map(async ({ text, tokens, result }, index) => ({
      text,
      index,
      finish_reason: finishNames[result.finish],
      logprobs: body.logprobs === undefined ? null : await logprobsOf(tokens, textOf),
    })),
  );
  return Response.json({ ...frame, choices, usage: usageOf(all) });
}

function streamed(
  generations: Generations,
  frame: object,
  inputs: readonly GenerationInput[],
  request: Request,
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
        const finish = event.type === "done" ? finishNames[event.result.finish] : null;
        sink.send({
          ...frame,
          choices: [{ text: event.text, index, finish_reason: finish, logprobs: null }],
        });
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
        : { kind: "infill", parts: { prefix: prompt, suffix, filename: undefined, extra: [] } },
    maxTokens: body.max_tokens,
    sampling: { temperature: body.temperature, topK: 0, topP: body.top_p, seed: body.seed + index },
    stop: typeof body.stop === "string" ? [body.stop] : body.stop,
    priority: "completion",
    nTop: body.logprobs ?? 0,
  };
}

async function logprobsOf(tokens: readonly GeneratedToken[], textOf: TokenText) {
  const topOf = async (token: GeneratedToken) =>
    Object.fromEntries(
      await Promise.all(token.top.map(async (t) => [await textOf(t.id), t.logProb] as const)),
    );
  return {
    tokens: await Promise.all(tokens.map((t) => textOf(t.id))),
    token_logprobs: tokens.map((t) => t.logProb),
    top_logprobs: await Promise.all(tokens.map(topOf)),
  };
}

function usageOf(all: readonly Generated[]) {
  const prompt_tokens = all[0]?.result.promptTokens ?? 0;
  const completion_tokens = all.reduce((sum, { tokens }) => sum + tokens.length, 0);
  return { prompt_tokens, completion_tokens, total_tokens: prompt_tokens + completion_tokens };
}
