/** What a running daemon answers: completions in both forms, the prefix cache, and every refusal. */
import { request } from "node:http";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import type { ErrorBody, InfillResponse } from "../../engine/protocol/api.ts";
import { answerOf, Daemon, eventsOf, runtimeFolder } from "../support/daemon.ts";

interface Completion {
  choices: {
    text: string;
    index: number;
    finish_reason: string | null;
    logprobs: null | {
      tokens: string[];
      token_logprobs: number[];
      top_logprobs: Record<string, number>[];
    };
  }[];
  usage: { prompt_tokens: number; completion_tokens: number; total_tokens: number };
}

const folder = runtimeFolder();
let engine: Daemon;
beforeAll(async () => {
  engine = folder.track(new Daemon(folder.dir));
  await engine.ready();
});
afterAll(folder.clean);

afterEach(async () => {
  const { requests, sequences, kv } = await engine.state();
  expect(requests.finished + requests.cancelled + requests.failed).toBe(requests.accepted);
  expect(sequences).toEqual({ running: 0, waiting: 0 });
  expect(kv.blocksUsed).toBe(0);
});

async function completion(body: object): Promise<Completion> {
  const { status, text } = await engine.post("/v1/completions", body);
  expect(status, text).toBe(200);
  return JSON.parse(text) as Completion;
}

async function infill(body: object): Promise<InfillResponse> {
  const { status, text } = await engine.post("/infill", body);
  expect(status, text).toBe(200);
  return JSON.parse(text) as InfillResponse;
}

/** `size` bytes of blanks, which JSON allows before a value. */
function* blanks(size: number): Generator<Buffer> {
  const block = Buffer.alloc(1 << 20, 0x20);
  for (let n = 0; n < size; n += block.length) yield block;
}

const prompt = "def add(a, b):\n    return ";

describe("completions", () => {
  test("whole and streamed give the same text and logprobs", async () => {
    const body = { prompt, max_tokens: 24, logprobs: 3 };
    const whole = await completion(body);
    const { text } = await engine.post("/v1/completions", { ...body, stream: true });
    const events = eventsOf(text);
    expect(events.pop()).toBe("[DONE]");
    const parts = (events as Completion[]).flatMap((event) => event.choices);
    expect(parts.map((part) => part.text).join("")).toBe(whole.choices[0]?.text);
    expect(parts.map((part) => part.finish_reason).filter((reason) => reason !== null)).toEqual([
      whole.choices[0]?.finish_reason,
    ]);
    const streamed = parts.flatMap((part) => part.logprobs?.token_logprobs ?? []);
    expect(streamed).toEqual(whole.choices[0]?.logprobs?.token_logprobs);
    expect(streamed).toHaveLength(whole.usage.completion_tokens);
  });

  test("logprobs are those of the chosen and of the most likely tokens", async () => {
    const { choices, usage } = await completion({ prompt, max_tokens: 5, logprobs: 4 });
    const logprobs = choices[0]?.logprobs;
    expect(logprobs?.tokens).toHaveLength(usage.completion_tokens);
    for (const [i, chosen] of (logprobs?.token_logprobs ?? []).entries()) {
      const top = Object.values(logprobs?.top_logprobs[i] ?? {});
      expect(top.length).toBeGreaterThan(0);
      expect(chosen).toBeLessThanOrEqual(0);
      // Greedy: the chosen token is the most likely one; both values are rounded to single precision.
      expect(Math.max(...top)).toBeCloseTo(chosen, 4);
    }
    expect((await completion({ prompt, max_tokens: 2 })).choices[0]?.logprobs).toBeNull();
  });

  test("n choices differ, and a seed repeats them", async () => {
    const body = { prompt, max_tokens: 12, n: 3, temperature: 1.5, seed: 7 };
    const first = await completion(body);
    const texts = first.choices.map((choice) => choice.text);
    expect(first.choices.map((choice) => choice.index)).toEqual([0, 1, 2]);
    expect(new Set(texts).size).toBe(3);
    expect((await completion(body)).choices.map((choice) => choice.text)).toEqual(texts);
    const other = await completion({ ...body, seed: 99 });
    expect(other.choices.map((choice) => choice.text)).not.toEqual(texts);
  });

  test("a stop string ends the text before it", async () => {
    const whole = (await completion({ prompt, max_tokens: 24 })).choices[0]?.text ?? "";
    const stop = whole.slice(6, 8);
    const { choices } = await completion({ prompt, max_tokens: 24, stop });
    expect(choices[0]).toMatchObject({
      text: whole.slice(0, whole.indexOf(stop)),
      finish_reason: "stop",
    });
  });

  test("a suffix uses the infilling layout and gives what /infill gives", async () => {
    const suffix = "\n\nprint(add(1, 2))\n";
    const plain = await completion({ prompt, max_tokens: 12 });
    const filled = await completion({ prompt, suffix, max_tokens: 12 });
    expect(filled.usage.prompt_tokens).toBeGreaterThan(plain.usage.prompt_tokens);
    const direct = await infill({ input_prefix: prompt, input_suffix: suffix, n_predict: 12 });
    expect(filled.choices[0]?.text).toBe(direct.content);
  });
});

describe("infill", () => {
  const body = {
    input_prefix: "const words = text.split",
    input_suffix: "\nreturn words;\n",
    input_extra: [{ filename: "src/a.ts", text: "export const text = 'one two';\n".repeat(9) }],
    filename: "src/b.ts",
    n_predict: 16,
  };

  test("an equal request is served from the cache with the same answer", async () => {
    const first = await infill(body);
    expect(first.tokens_cached).toBeLessThan(first.tokens_evaluated - 1);
    const second = await infill(body);
    expect(second.tokens_cached).toBe(second.tokens_evaluated - 1);
    expect(second).toMatchObject({
      content: first.content,
      tokens: first.tokens,
      tokens_evaluated: first.tokens_evaluated,
    });
  });

  test("a keystroke computes little more than its own tokens", async () => {
    await infill(body);
    const typed = await infill({ ...body, input_prefix: `${body.input_prefix}(" ")` });
    expect(typed.tokens_evaluated - typed.tokens_cached).toBeLessThanOrEqual(6);
  });

  test("the last event of a stream holds the whole answer", async () => {
    const whole = await infill(body);
    const { text } = await engine.post("/infill", { ...body, stream: true });
    const events = eventsOf(text) as (Partial<InfillResponse> & { stop: boolean })[];
    const last = events.pop();
    expect(last).toMatchObject({ stop: true, content: whole.content, tokens: whole.tokens });
    expect(events.every((event) => !event.stop)).toBe(true);
    expect(events.map((event) => event.content).join("")).toBe(whole.content);
  });

  test("0 tokens only fill the cache", async () => {
    const input_prefix = "// nothing like it came before\nlet fresh = ";
    const fill = await infill({ ...body, input_prefix, n_predict: 0, priority: "prefill" });
    expect(fill).toMatchObject({ content: "", tokens: [], stop_type: "limit" });
    const next = await infill({ ...body, input_prefix });
    expect(next.tokens_cached).toBe(next.tokens_evaluated - 1);
  });
});

test("text comes back from its tokens, and unknown tokens have no text", async () => {
  const content = "naïve 文字 <｜end▁of▁sentence｜>\n";
  const { tokens } = JSON.parse((await engine.post("/tokenize", { content })).text) as {
    tokens: number[];
  };
  expect(tokens.every((id) => id > 7)).toBe(true);
  expect(JSON.parse((await engine.post("/detokenize", { tokens })).text)).toEqual({ content });
  expect((await engine.post("/detokenize", { tokens: [2 ** 31] })).text).toBe('{"content":""}');
});

test("models and metrics are told", async () => {
  expect(JSON.parse((await engine.get("/v1/models")).text)).toMatchObject({
    data: [{ id: "tiny-f32" }],
  });
  const { text } = await engine.get("/metrics");
  expect(text).toMatch(/^tidepool_requests_finished_total [1-9]\d*$/m);
  expect(text).toMatch(/^tidepool_kv_blocks_used 0$/m);
});

describe("refusals", () => {
  const json = JSON.stringify;
  test.each([
    ["no JSON", "POST", "/infill", "{", 400, "bad_request", /expected a body in JSON/],
    ["no body", "POST", "/infill", "", 400, "bad_request", /expected a body in JSON/],
    [
      "invalid UTF-8",
      "POST",
      "/tokenize",
      Buffer.from([0x22, 0xff, 0x22]),
      400,
      "bad_request",
      /UTF-8/,
    ],
    [
      "another type",
      "POST",
      "/tokenize",
      json({ content: 1 }),
      400,
      "bad_request",
      /^content: exp/,
    ],
    ["a list", "POST", "/v1/completions", "[]", 400, "bad_request", /expected/],
    ["no number", "POST", "/detokenize", '{"tokens":[1e999]}', 400, "bad_request", /tokens\.0/],
    ["n of 0", "POST", "/v1/completions", json({ prompt, n: 0 }), 400, "bad_request", /^n: exp/],
    ["an unknown path", "GET", "/v2/x", "", 404, "not_found", /found GET \/v2\/x/],
    ["another method", "GET", "/infill", "", 404, "not_found", /found GET \/infill/],
    ["chat", "POST", "/v1/chat/completions", "{}", 501, "unsupported", /expected a chat model/],
    [
      "a prompt beyond the context",
      "POST",
      "/v1/completions",
      json({ prompt: "x y ".repeat(20_000) }),
      400,
      "prompt_too_long",
      /fewer than 16384 tokens, found \d{5}/,
    ],
    [
      "a line beyond the context",
      "POST",
      "/infill",
      json({ input_prefix: "x y ".repeat(20_000), input_suffix: "" }),
      400,
      "prompt_too_long",
      /expected the line before the cursor to fit/,
    ],
  ])("%s", async (_, method, path, body, status, code, message) => {
    const answer = await engine.call(method, path, body);
    const { error } = JSON.parse(answer.text) as ErrorBody;
    expect({ status: answer.status, code: error.code }).toEqual({ status, code });
    expect(error.message).toMatch(message);
    expect(error.message).not.toContain("\n");
  });

  test("a stream that is refused ends with one error event", async () => {
    const body = { input_prefix: "x y ".repeat(20_000), input_suffix: "", stream: true };
    const { text } = await engine.post("/infill", body);
    expect(text.startsWith("event: error\n")).toBe(true);
    expect(eventsOf(text)).toMatchObject([{ error: { code: "prompt_too_long" } }]);
  });

  test.each(["by length", "in chunks"])(
    "a body of 100 MB %s is refused and not kept",
    async (how) => {
      const before = (await engine.state()).memory.rssBytes;
      const size = 100 << 20;
      const headers = how === "by length" ? { "content-length": size } : {};
      const { socket } = engine;
      const sent = request({ socketPath: socket, method: "POST", path: "/infill", headers });
      const answer = answerOf(sent);
      const sending = pipeline(Readable.from(blanks(size)), sent).catch(() => {
        // The engine hangs up before it has read everything; what it answered is checked below.
      });
      const { status, text } = await answer;
      expect(status).toBe(413);
      expect((JSON.parse(text) as ErrorBody).error.code).toBe("body_too_large");
      sent.destroy();
      await sending;
      expect((await engine.state()).memory.rssBytes - before).toBeLessThan(90 << 20);
    },
  );
});
