import { afterEach, beforeEach, expect, test } from "vitest";
import type { InfillRequest } from "../../engine/protocol/api.ts";
import { deferred } from "../base/async.ts";
import { EngineConnection } from "../engineClient/connection.ts";
import { FakeEngine, failure } from "../engineClient/fakeEngine.ts";
import { CompletionController, type CompletionQuery } from "./completionController.ts";

let engine: FakeEngine;
let connection: EngineConnection;
let controller: CompletionController;

beforeEach(async () => {
  engine = await FakeEngine.start();
  connection = new EngineConnection(engine.socket);
  controller = new CompletionController(connection);
});

afterEach(async () => {
  controller.dispose();
  connection.dispose();
  await engine.stop();
});

function query(marked: string, change: Partial<CompletionQuery> = {}): CompletionQuery {
  const offset = marked.indexOf("<|>");
  return {
    snapshot: { filename: "a.py", text: marked.replace("<|>", ""), offset },
    trigger: "typing",
    settings: { debounceMs: 0, maxTokens: 32, multiline: "auto" },
    context: () => Promise.resolve([{ filename: "b.py", text: "b" }]),
    ...change,
  };
}

const ask = (marked: string, signal = new AbortController().signal) =>
  controller.complete(query(marked), signal);
/** Requests that somebody waits for; what is computed ahead has another priority. */
const asked = () => engine.requests.filter(({ priority }) => priority === "completion");
const shown = (text: string, replaceLength = 0) => ({ kind: "shown", text, replaceLength });

test("asks the engine for one line, with context, and shows what it says", async () => {
  engine.script = () => ({ pieces: ["total", " / n"], stopType: "word" });
  await expect(ask("x = <|>\ny = 2")).resolves.toEqual(shown("total / n"));
  expect(engine.requests[0]).toMatchObject({
    input_prefix: "x = ",
    input_suffix: "\ny = 2",
    filename: "a.py",
    stop: ["\n"],
    n_predict: 32,
    input_extra: [{ filename: "b.py", text: "b" }],
  } satisfies Partial<InfillRequest>);
});

test("makes no request in the middle of code", async () => {
  await expect(ask("x = <|>y")).resolves.toEqual({ kind: "nothing", reason: "mid-line" });
  expect(engine.requests).toHaveLength(0);
});

test("answers from what it knows while the user types the suggestion", async () => {
  engine.script = () => ({ pieces: ["f(a, b)"] });
  await ask("x = <|>\n");
  await expect(ask("x = f<|>\n")).resolves.toEqual(shown("(a, b)"));
  await expect(ask("x = f(<|>)\n")).resolves.toEqual(shown("a, b"));
  await expect(ask("x = <|>\n")).resolves.toEqual(shown("f(a, b)"));
  expect(asked()).toHaveLength(1);
});

test("shows the rest of several lines while their first is typed", async () => {
  engine.script = () => ({ pieces: ["a = 1\n    return a\n"] });
  await expect(ask("def f():\n    <|>")).resolves.toEqual(shown("a = 1\n    return a"));
  await expect(ask("def f():\n    a =<|>")).resolves.toEqual(shown(" 1\n    return a"));
  expect(asked()).toHaveLength(1);
});

test("keeps a running generation that agrees with what was typed since", async () => {
  const hold = deferred<void>();
  engine.script = () => ({ pieces: ["value"], hold: hold.promise });
  const stop = new AbortController();
  const first = ask("x = <|>\n", stop.signal);
  await engine.received(1);
  stop.abort();
  await expect(first).resolves.toEqual({ kind: "nothing", reason: "superseded" });
  const second = ask("x = va<|>\n");
  hold.resolve();
  await expect(second).resolves.toEqual(shown("lue"));
  expect(asked()).toHaveLength(1);
  expect(engine.cancelled).toBe(0);
});

test("aborts a running generation that typing contradicts, and asks anew", async () => {
  const never = deferred<void>();
  engine.script = () => ({ pieces: ["value"], hold: never.promise });
  const stop = new AbortController();
  const first = ask("x = <|>\n", stop.signal);
  await engine.received(1);
  engine.script = () => ({ pieces: ["ther"] });
  stop.abort();
  await expect(ask("x = o<|>\n")).resolves.toEqual(shown("ther"));
  await expect(first).resolves.toMatchObject({ reason: "superseded" });
  await expect.poll(() => engine.cancelled).toBe(1);
  never.resolve();
});

test("stops generation where the block ends", async () => {
  const never = deferred<void>();
  engine.script = () => ({ pieces: ["\n    return 1", "\nprint(2"], hold: never.promise });
  await expect(ask("def f():<|>")).resolves.toEqual(shown("\n    return 1"));
  await expect.poll(() => engine.cancelled).toBeGreaterThanOrEqual(1);
  never.resolve();
});

test("waits for a pause in typing, and makes no request when none comes", async () => {
  const stop = new AbortController();
  const settings = { debounceMs: 60_000, maxTokens: 32, multiline: "auto" } as const;
  const waiting = controller.complete(query("x = <|>", { settings }), stop.signal);
  stop.abort();
  await expect(waiting).resolves.toMatchObject({ reason: "superseded" });
  expect(engine.requests).toHaveLength(0);
});

test("a refusal of the engine is a reason and no error", async () => {
  engine.script = () => failure("overloaded", "too many requests");
  await expect(ask("x = <|>")).resolves.toEqual({
    kind: "nothing",
    reason: "engine-failed",
    detail: "too many requests",
  });
});

test("a reset ends what runs and forgets what was said", async () => {
  engine.script = () => ({ pieces: ["1"] });
  await ask("x = <|>");
  controller.reset();
  await ask("x = <|>");
  expect(asked()).toHaveLength(2);
});
