import { afterEach, beforeEach, expect, test } from "vitest";
import type { InfillRequest } from "../../engine/protocol/api.ts";
import { deferred } from "../base/async.ts";
import { EngineConnection } from "../engineClient/connection.ts";
import { FakeEngine, failure } from "../engineClient/fakeEngine.ts";
import { CompletionController } from "./completionController.ts";
import type { CompletionQuery } from "./completionQuery.ts";

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
    related: () => Promise.resolve([]),
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

test("a text that was passed over for another is not offered again at that place, unless asked for", async () => {
  engine.script = () => ({ pieces: ["value"] });
  await expect(ask("x = <|>\n")).resolves.toEqual(shown("value"));
  engine.script = () => ({ pieces: ["q"], logProb: -9 });
  await ask("x = z<|>\n");
  await expect(ask("x = <|>\n")).resolves.toEqual({ kind: "nothing", reason: "rejected" });
  const command = query("x = <|>\n", { trigger: "command" });
  await expect(controller.complete(command, new AbortController().signal)).resolves.toEqual(
    shown("value"),
  );
});

test("deleting and typing again refuses nothing", async () => {
  engine.script = () => ({ pieces: ["value"] });
  await ask("x = <|>\n");
  await ask("x = v<|>\n");
  await ask("x =<|>\n");
  await expect(ask("x = <|>\n")).resolves.toEqual(shown("value"));
});

test("what stands behind an accepted text is computed before it is accepted", async () => {
  engine.script = ({ input_prefix }) => ({
    pieces: [input_prefix === "x = " ? "first" : "(rest)"],
  });
  await expect(ask("x = <|>\n")).resolves.toEqual(shown("first"));
  await engine.received(2);
  expect(engine.requests[1]).toMatchObject({ input_prefix: "x = first", priority: "chat" });
  await controller.settled();
  await expect(ask("x = first<|>\n")).resolves.toEqual(shown("(rest)"));
  expect(asked()).toHaveLength(1);
});

test("accepting by word and by line leaves the rest on the screen, without the engine", async () => {
  engine.script = () => ({ pieces: ["alpha = beta\n    gamma()\n"] });
  await expect(ask("def f():\n    <|>")).resolves.toEqual(shown("alpha = beta\n    gamma()"));
  await expect(ask("def f():\n    alpha<|>")).resolves.toEqual(shown(" = beta\n    gamma()"));
  await expect(ask("def f():\n    alpha = beta\n<|>")).resolves.toEqual(shown("    gamma()"));
  expect(asked()).toHaveLength(1);
});

test("an unsure answer is not shown, and ends as soon as that is known", async () => {
  const never = deferred<void>();
  engine.script = () => ({ pieces: ["maybe", " this"], logProb: -2, hold: never.promise });
  await expect(ask("x = <|>\n")).resolves.toEqual({ kind: "nothing", reason: "unsure" });
  await expect.poll(() => engine.cancelled).toBeGreaterThanOrEqual(1);
  never.resolve();
});

test("shows what the file says when the model is unsure", async () => {
  engine.script = () => ({ pieces: ["zzz"], logProb: -4 });
  await expect(ask("totalAmount = 1\nprint(totalA<|>)")).resolves.toEqual(shown("mount"));
});

test("offers up to three different texts on request", async () => {
  engine.script = () => ({ pieces: ["one"], logProb: -5, others: ["two", "one", "three"] });
  const found = await controller.alternatives(query("x = <|>\n"), new AbortController().signal);
  expect(found).toEqual([shown("one"), shown("two"), shown("three")]);
  expect(engine.requests[0]).toMatchObject({ n: 3 });
});

test("gives who asks the best guess where nothing is sure enough to be shown by itself, and no wild one", async () => {
  const asking = (marked: string) =>
    controller.complete(query(marked, { trigger: "command" }), new AbortController().signal);
  engine.script = () => ({ pieces: ["total"], stopType: "word", logProb: Math.log(0.1) });
  await expect(ask("x = <|>\n")).resolves.toEqual({ kind: "nothing", reason: "unsure" });
  await expect(asking("x = <|>\n")).resolves.toEqual(shown("total"));
  engine.script = () => ({ pieces: ["total"], stopType: "word", logProb: Math.log(0.01) });
  await expect(asking("y = <|>\n")).resolves.toEqual({ kind: "nothing", reason: "unsure" });
});

test("offers on request first the likely part, then whole texts", async () => {
  engine.script = () => ({
    pieces: ["first", "(a, b)"],
    logProb: Math.log(0.5),
    others: ["second"],
  });
  const found = await controller.alternatives(query("x = <|>\n"), new AbortController().signal);
  expect(found).toEqual([shown("first"), shown("first(a, b)"), shown("second")]);
});

test("offers on request what the file says where it says more than the model", async () => {
  engine.script = () => ({ pieces: ["zzz"], logProb: -4, others: ["yyy"] });
  const marked = query("totalAmount = 1\nprint(totalA<|>)");
  const found = await controller.alternatives(marked, new AbortController().signal);
  expect(found).toEqual([shown("mount"), shown("zzz"), shown("yyy")]);
});

test("says why there are no alternatives", async () => {
  engine.script = () => failure("overloaded", "too many requests");
  await expect(
    controller.alternatives(query("x = <|>\n"), new AbortController().signal),
  ).resolves.toEqual([{ kind: "nothing", reason: "engine-failed", detail: "too many requests" }]);
});

test("has other files read in idle time, and kept under the workspace's name", async () => {
  await controller.readAhead(query("x = <|>\n"), "/w");
  expect(engine.prefills).toEqual([
    {
      input_prefix: "x = ",
      input_suffix: "\n",
      input_extra: [{ filename: "b.py", text: "b" }],
      filename: "a.py",
      resident: "/w",
    },
  ]);
});

test("a bracket that the editor closes changes nothing before the typed text in the prompt", async () => {
  engine.script = () => ({ pieces: ["q"], logProb: -9 });
  await ask("x = f<|>\n");
  await ask("x = f(<|>)\n");
  expect(asked().map(({ input_suffix }) => input_suffix)).toEqual(["\n", "\n"]);
});

test("copies from files like this one: read once for a document, waited for when asked by hand", async () => {
  engine.script = () => ({ pieces: ["x"], stopType: "word" });
  let nReads = 0;
  const change: Partial<CompletionQuery> = {
    trigger: "command",
    related: () =>
      Promise.resolve([`reads_${++nReads} = 1\nconfigure_everything(first, second)\n`]),
  };
  const text = "a = 1\nconfigure_<|>\n";
  const signal = new AbortController().signal;
  const result = await controller.complete(query(text, change), signal);
  expect(result.kind === "shown" && result.text).toMatch(/^everything/);
  await controller.complete(query(text, change), signal);
  expect(nReads).toBe(1);
  controller.reset();
  await controller.complete(query(text, { trigger: "command" }), signal);
  expect(nReads).toBe(1);
});

test("an answer that is joined and knows enough is not asked for again", async () => {
  const hold = deferred<void>();
  engine.script = () => ({ pieces: ["\n    return 1\nprint(2"], hold: hold.promise });
  const stop = new AbortController();
  const first = ask("def f():<|>", stop.signal);
  await engine.received(1);
  stop.abort();
  await first;
  const second = ask("def f():<|>");
  hold.resolve();
  await expect(second).resolves.toEqual(shown("\n    return 1"));
  expect(asked()).toHaveLength(1);
});

test("after the time budget shows what there is, without a name that may go on, and the rest when it is typed", async () => {
  const settings = { debounceMs: 0, maxTokens: 32, multiline: "auto", budgetMs: 150 } as const;
  const hold = deferred<void>();
  engine.script = () => ({ pieces: ["alpha + be", "ta"], hold: hold.promise });
  const one = query("x = <|>\n", { settings });
  await expect(controller.complete(one, new AbortController().signal)).resolves.toEqual(
    shown("alpha +"),
  );
  hold.resolve();
  await expect(ask("x = a<|>\n")).resolves.toEqual(shown("lpha + beta"));
  expect(asked()).toHaveLength(1);
});

test("shows by the least probability that is set: the same text in one mode and not in another", async () => {
  engine.script = () => ({ pieces: ["maybe"], logProb: Math.log(0.25) });
  const settings = { debounceMs: 0, maxTokens: 32, multiline: "auto" } as const;
  const { signal } = new AbortController();
  const inMode = (sure: number) =>
    controller.complete(query("x = <|>\n", { settings: { ...settings, sure } }), signal);
  await expect(inMode(0.55)).resolves.toMatchObject({ reason: "unsure" });
  await expect(inMode(0.18)).resolves.toEqual(shown("maybe"));
});

test("several lines that were passed over are not offered again in a document with CRLF either", async () => {
  engine.script = () => ({ pieces: ["a = 1\n    return a\n"] });
  const marked = "def f():\r\n    <|>\r\n";
  await expect(ask(marked)).resolves.toEqual(shown("a = 1\r\n    return a"));
  engine.script = () => ({ pieces: ["q"], logProb: -9 });
  await ask("def f():\r\n    z<|>\r\n");
  await expect(ask(marked)).resolves.toMatchObject({ reason: "rejected" });
});
