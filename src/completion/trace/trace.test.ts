// Traces as the controller writes them, over an engine that is scripted.
import fc from "fast-check";
import { afterEach, beforeEach, expect, test } from "vitest";
import { deferred } from "../../base/async.ts";
import { EngineConnection } from "../../engineClient/connection.ts";
import { FakeEngine, failure } from "../../engineClient/fakeEngine.ts";
import { CompletionController } from "../completionController.ts";
import type { CompletionQuery } from "../completionQuery.ts";
import { CompletionTrace } from "./completionTrace.ts";
import { explanationOf } from "./explanation.ts";
import { documentOf } from "./traceDocument.ts";
import { figuresOf } from "./traceFigures.ts";
import { reportOf } from "./traceReport.ts";

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

interface Given {
  marked: string;
  filename?: string;
  extra?: string;
  trigger?: CompletionQuery["trigger"];
}

async function traced({ marked, filename = "a.py", extra = "b", trigger = "typing" }: Given) {
  const trace = new CompletionTrace();
  const query: CompletionQuery = {
    snapshot: { filename, text: marked.replace("<|>", ""), offset: marked.indexOf("<|>") },
    trigger,
    settings: { debounceMs: 1, maxTokens: 32, multiline: "auto" },
    context: () => Promise.resolve([{ filename: `other_${filename}`, text: extra }]),
    related: () => Promise.resolve([]),
    trace,
  };
  const { signal } = new AbortController();
  const result =
    trigger === "typing"
      ? await controller.complete(query, signal)
      : (await controller.alternatives(query, signal))[0];
  expect(result).toBeDefined();
  if (result) trace.finish(explanationOf(result, trace.source));
  return trace;
}

const stagesOf = (trace: CompletionTrace) => trace.stages.map(({ name }) => name);

test("a request writes down its stages in order, and what the engine did", async () => {
  engine.script = () => ({ pieces: ["total", " / n"], stopType: "word" });
  const trace = await traced({ marked: "x = <|>\ny = 2" });
  expect(stagesOf(trace)).toEqual(["copies", "answers", "debounce", "context", "syntax"]);
  expect(trace.outcome).toMatchObject({ kind: "shown", source: "model", length: 9 });
  expect(figuresOf(trace).engine).toMatchObject({
    promptTokens: 100,
    cachedTokens: 64,
    queueMs: 0,
    prefillMs: 2,
    ending: "word",
    joined: false,
    tokens: [{ length: 5 }, { length: 4 }],
  });
  expect(trace.stages.every(({ ms }) => ms >= 0)).toBe(true);
  expect(trace.totalMs).toBeGreaterThanOrEqual(trace.stages.at(-1)?.startMs ?? Number.NaN);
});

test("the engine's times are known of an answer that we ended early", async () => {
  const never = deferred<void>();
  engine.script = () => ({ pieces: ["maybe", " this"], logProb: -2, hold: never.promise });
  const trace = await traced({ marked: "x = <|>\n" });
  expect(trace.outcome).toMatchObject({ kind: "nothing", reason: "unsure" });
  const { engine: figures } = figuresOf(trace);
  expect(figures).toMatchObject({ prefillMs: 2, ending: "enough" });
  expect(reportOf(figuresOf(trace), [], {})).toContain("first token a probability of 13.5 %");
  never.resolve();
});

test("an answer from before says so and asks nothing", async () => {
  engine.script = () => ({ pieces: ["value"] });
  await traced({ marked: "x = <|>\n" });
  const trace = await traced({ marked: "x = v<|>\n" });
  expect(trace.outcome).toMatchObject({ kind: "shown", source: "answers" });
  expect(stagesOf(trace)).toEqual(["copies", "answers"]);
});

test("a copied text says so", async () => {
  engine.script = () => ({ pieces: ["zzz"], logProb: -4 });
  const trace = await traced({ marked: "totalAmount = 1\nprint(totalA<|>)" });
  expect(trace.outcome).toMatchObject({ kind: "shown", source: "copy" });
});

test("names the filter that left nothing", async () => {
  engine.script = () => ({ pieces: ["y = 2"], stopType: "word" });
  const trace = await traced({ marked: "def f():\n    <|>\n    y = 2\n    return y\n" });
  const report = reportOf(figuresOf(trace), [], {});
  expect(trace.outcome).toMatchObject({ kind: "nothing", reason: "repeats-following" });
  expect(report).toMatch(/\| following lines +\| 5 +\| 0 +\| left nothing +\|/);
});

test("a dismissed text is told in words", async () => {
  engine.script = () => ({ pieces: ["value"] });
  await traced({ marked: "x = <|>\n" });
  engine.script = () => ({ pieces: ["q"], logProb: -9 });
  await traced({ marked: "x = z<|>\n" });
  const trace = await traced({ marked: "x = <|>\n" });
  expect(documentOf(trace, [], {})).toContain("you dismissed this text here before");
});

test("a text that would begin below blanks is not shown while typing, where Tab indents, and is when asked for", async () => {
  engine.script = () => ({ pieces: ["\n    total = 1\n"] });
  const marked = "def f():\n    <|>";
  const trace = await traced({ marked });
  expect(trace.outcome).toMatchObject({ kind: "nothing", reason: "not-visible" });
  const asked = await traced({ marked, trigger: "command" });
  expect(asked.outcome).toMatchObject({ kind: "shown" });
});

test("what the engine says of a failure stays out of the report", async () => {
  engine.script = () => failure("overloaded", "too many requests of /home/me/secret.py");
  const trace = await traced({ marked: "x = <|>" });
  expect(documentOf(trace, [], {})).toContain("too many requests");
  expect(reportOf(figuresOf(trace), [], {})).not.toContain("secret");
});

/** Words that no report has of its own. */
const word = fc
  .array(fc.constantFrom(..."qxzjkvw"), { minLength: 3, maxLength: 8 })
  .map((letters) => letters.join(""));

test("no piece of the code, of other files or of the answer gets into a report", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.tuple(word, word, word, word, word),
      fc.constantFrom<CompletionQuery["trigger"]>("typing", "command"),
      fc.constantFrom(-0.05, -3),
      async ([name, before, after, other, said], trigger, logProb) => {
        engine.script = () => ({ pieces: [said, ` ${before}`], logProb, stopType: "word" });
        const trace = await traced({
          filename: `${name}/${name}.py`,
          marked: `${before} = 1\n${before} = <|>\n${after}()\n`,
          extra: `${other} = 2`,
          trigger,
        });
        const report = reportOf(figuresOf(trace), [figuresOf(trace)], { Tidepool: "1" });
        const words = [name, before, after, other, said];
        expect(words.filter((piece) => report.includes(piece))).toEqual([]);
        const document = documentOf(trace, [], {});
        if (trace.generation)
          expect(words.filter((piece) => !document.includes(piece))).toEqual([]);
      },
    ),
    { numRuns: 40 },
  );
});
