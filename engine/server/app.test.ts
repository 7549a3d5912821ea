import { expect, test } from "vitest";
import type { GenerationInput } from "../engine.ts";
import type { EngineHandle } from "../hostedEngine.ts";
import type { GenerationEvent } from "../scheduler/request.ts";
import { App } from "./app.ts";

const model = { id: "m", path: "/m.gguf", contextLength: 64, device: "fake", fim: true };
const result = {
  finish: "eos",
  promptTokens: 9,
  cachedTokens: 8,
  queueMs: 0,
  promptMs: 1,
  predictedMs: 2,
  drafts: { drafted: 5, accepted: 3 },
} as const;

const prompt = { promptTokens: 9, cachedTokens: 8, queueMs: 2, promptMs: 1 };

/** An engine that answers "ab" in two tokens; with `hang` it waits to be cancelled. */
function fake(hang = false) {
  const inputs: GenerationInput[] = [];
  const engine: EngineHandle = {
    status: { phase: "ready", model },
    activity: { running: 1, waiting: 2 },
    onStatus: () => undefined,
    onActivity: () => undefined,
    generate(input, onEvent) {
      inputs.push(input);
      const later = (event: GenerationEvent) => queueMicrotask(() => onEvent(event));
      if (!hang) {
        later({
          type: "delta",
          text: "a",
          tokens: [{ id: 7, text: "a", logProb: -1, top: [] }],
          prompt,
        });
        later({
          type: "delta",
          text: "b",
          tokens: [{ id: 8, text: "b", logProb: -2, top: [] }],
          prompt,
        });
        later({ type: "done", text: "", result });
      }
      return () => later({ type: "done", text: "", result: { ...result, finish: "cancelled" } });
    },
    tokenize: () => Promise.resolve([1, 2]),
    detokenize: (tokens) => Promise.resolve(`<${tokens.join()}>`),
    stats: () => Promise.reject(new Error("not asked for")),
    close: () => Promise.resolve(),
  };
  return { engine, inputs };
}

function start(options: { hang?: boolean; token?: string } = {}) {
  const { engine, inputs } = fake(options.hang);
  let nUses = 0;
  const onUse = () => nUses++;
  const app = new App({ engine, version: "1", onShutdown: () => undefined, onUse });
  const answer = app.routes(options.token);
  const get = (path: string) => answer(new Request(`http://x${path}`));
  const post = (path: string, body: unknown, init: RequestInit = {}) =>
    answer(new Request(`http://x${path}`, { method: "POST", body: JSON.stringify(body), ...init }));
  return { app, inputs, get, post, uses: () => nUses };
}

const infill = { input_prefix: "p", input_suffix: "s" };

test("/infill answers in llama.cpp's form", async () => {
  const { post } = start();
  expect(await (await post("/infill", infill)).json()).toMatchObject({
    content: "ab",
    stop: true,
    stop_type: "eos",
    tokens: [7, 8],
    logprobs: [-1, -2],
    tokens_evaluated: 9,
    tokens_cached: 8,
  });
});

test("a stream ends with one final event", async () => {
  const { post, app } = start();
  const text = await (await post("/infill", { ...infill, stream: true })).text();
  const events = text
    .trimEnd()
    .split("\n\n")
    .map((block) => JSON.parse(block.replace("data: ", "")) as { stop: boolean });
  expect(events.map((event) => event.stop)).toEqual([false, false, true]);
  expect(events[0]).toMatchObject({ timings: { queue_ms: 2, prompt_ms: 1 } });
  expect(app.generations.counts).toEqual({ accepted: 1, finished: 1, cancelled: 0, failed: 0 });
});

test("several answers come whole, also as a stream, and are asked for as one family", async () => {
  const { post, inputs } = start();
  const whole = await (await post("/infill", { ...infill, n: 3 })).json();
  expect(whole).toMatchObject({
    content: "ab",
    texts: ["a", "b"],
    alternatives: [
      { content: "ab", stop_type: "eos", logprobs: [-1, -2], texts: ["a", "b"] },
      { content: "ab" },
    ],
  });
  expect(inputs.map(({ branch }) => branch)).toEqual([0, 1, 2]);
  expect(new Set(inputs.map(({ family }) => family)).size).toBe(1);
  const streamed = await (await post("/infill", { ...infill, n: 2, stream: true })).text();
  expect(streamed.match(/^data: /gm)).toHaveLength(1);
});

test("a prefill generates nothing and comes after everything else", async () => {
  const { post, inputs } = start();
  const input_extra = [{ filename: "a", text: "b" }];
  const response = await post("/tidepool/prefill", { input_extra, resident: "w" });
  expect(await response.json()).toMatchObject({ tokens: 9, tokens_cached: 8 });
  expect(inputs[0]).toMatchObject({ maxTokens: 0, priority: "prefill", resident: "w" });
});

test("/v1/completions makes n choices with seeds of their own, whole and streamed", async () => {
  const { post, inputs } = start();
  const body = { prompt: "p", suffix: "s", n: 2, seed: 5, logprobs: 0, stop: "x" };
  expect(await (await post("/v1/completions", body)).json()).toMatchObject({
    choices: [
      { text: "ab", index: 0, logprobs: { tokens: ["a", "b"], token_logprobs: [-1, -2] } },
      { text: "ab", index: 1 },
    ],
    usage: { completion_tokens: 4 },
  });
  expect(inputs.map((input) => input.sampling.seed)).toEqual([5, 6]);
  const streamed = await (await post("/v1/completions", { ...body, stream: true })).text();
  expect(streamed.endsWith("data: [DONE]\n\n")).toBe(true);
  expect(streamed).toContain(
    '"text":"b","index":1,"finish_reason":null,"logprobs":{"tokens":["b"],"token_logprobs":[-2],',
  );
});

test("a client that leaves a stream cancels its request once", async () => {
  const { post, app } = start({ hang: true });
  const response = await post("/infill", { ...infill, stream: true });
  await response.body?.cancel();
  await new Promise(setImmediate);
  expect(app.generations.counts).toEqual({ accepted: 1, finished: 0, cancelled: 1, failed: 0 });
});

test.each([
  ["/infill", { input_prefix: 3 }, 400, /input_prefix: expected string, found 3/],
  ["/infill", { ...infill, n: 0 }, 400, /n: expected >=1, found 0/],
  ["/tidepool/prefill", { input_extra: 1 }, 400, /input_extra: expected /],
  ["/infill", { ...infill, n_predict: -1 }, 400, /n_predict: expected >=0, found -1/],
  ["/v1/completions", {}, 400, /prompt: expected /],
  ["/v1/chat/completions", {}, 501, /expected a chat model/],
  ["/nowhere", {}, 404, /expected a known path/],
])("%s refuses %j with status %i", async (path, body, status, message) => {
  const response = await start().post(path, body);
  expect(response.status).toBe(status);
  expect(((await response.json()) as { error: { message: string } }).error.message).toMatch(
    message,
  );
});

test("a token is asked for when one is set", async () => {
  const { post } = start({ token: "secret" });
  expect((await post("/tokenize", { content: "a" })).status).toBe(401);
  const wrong = await post(
    "/tokenize",
    { content: "a" },
    { headers: { authorization: "Bearer secreT" } },
  );
  expect(wrong.status).toBe(401);
  const right = await post(
    "/tokenize",
    { content: "a" },
    { headers: { authorization: "Bearer secret" } },
  );
  expect(await right.json()).toEqual({ tokens: [1, 2] });
});

test("a draining engine takes nothing new and says so", async () => {
  const { app, post } = start();
  app.drain();
  expect((await post("/infill", infill)).status).toBe(503);
  expect(app.health().status).toBe("draining");
});

test("listeners share one count of requests and clients, and health is no use", async () => {
  const { app, get, uses } = start();
  const other = app.routes("secret");
  const headers = { authorization: "Bearer secret" };
  const body = JSON.stringify(infill);
  await (await other(new Request("http://x/infill", { method: "POST", headers, body }))).text();
  expect(app.generations.counts.finished).toBe(1);
  const before = uses();
  await get("/health");
  expect(uses()).toBe(before);
  await get("/metrics");
  expect(uses()).toBe(before + 1);
});

test("an event stream tells health and activity once, counts as a client, and ends when told", async () => {
  const { app, get } = start();
  const response = await get("/tidepool/events");
  expect(app.nClients).toBe(1);
  app.drain();
  app.endEventStreams();
  const text = await response.text();
  expect(text.match(/^event: .*$/gm)).toEqual([
    "event: health",
    "event: activity",
    "event: health",
  ]);
  expect(text).toContain('data: {"running":1,"waiting":2}');
  expect(text).toContain('"status":"draining"');
  expect(app.nClients).toBe(0);
});
