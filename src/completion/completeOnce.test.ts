import { afterEach, beforeEach, expect, test } from "vitest";
import { EngineConnection } from "../engineClient/connection.ts";
import { FakeEngine, failure } from "../engineClient/fakeEngine.ts";
import { LocalSyntax } from "../syntax/localSyntax.ts";
import { completeOnce } from "./completeOnce.ts";
import { CompletionController } from "./completionController.ts";
import type { CompletionQuery } from "./completionQuery.ts";

let engine: FakeEngine;
let connection: EngineConnection;

beforeEach(async () => {
  engine = await FakeEngine.start();
  connection = new EngineConnection(engine.socket);
});

afterEach(async () => {
  connection.dispose();
  await engine.stop();
});

const REPEATED = "for item in items:\n    total += item.price\n\nfor item in items:\n    ";
const others = { extra: [{ filename: "b.py", text: "b" }], related: ["def grand_total(rows):\n"] };

function snapshotOf(marked: string) {
  const offset = marked.indexOf("<|>");
  return { filename: "a.py", text: marked.replace("<|>", ""), offset };
}

async function inEditor(marked: string) {
  const controller = new CompletionController(connection, { syntax });
  const query: CompletionQuery = {
    snapshot: snapshotOf(marked),
    trigger: "typing",
    settings: { debounceMs: 0, maxTokens: 32, multiline: "auto" },
    context: () => Promise.resolve(others.extra),
    related: () => Promise.resolve(others.related),
  };
  // As where the cursor has rested.
  await controller.learn(query);
  const result = await controller.complete(query, new AbortController().signal);
  controller.dispose();
  return result;
}

const syntax = new LocalSyntax();
const queryOf = (marked: string) => ({
  snapshot: snapshotOf(marked),
  ...others,
  maxTokens: 32,
  syntax,
});

test.each([
  ["what the model says", "x = <|>\ny = 2", "total / n"],
  ["a copy that is surer than the model", `${REPEATED}total += <|>\n`, "q"],
  ["a copy that needs no model", `${REPEATED}tot<|>\n`, "tally"],
  ["a copy from a file that is like this one", "x = 1\n\n\ndef grand<|>\n", "x"],
  [
    "the model where it says more than the copy",
    `${REPEATED}total += <|>\n`,
    "item.price * rate[item.kind]",
  ],
])("shows the same as the editor: %s", async (_, marked, said) => {
  engine.script = () => ({ pieces: [said], stopType: "word" });
  const once = await completeOnce(connection, queryOf(marked));
  const shown = await inEditor(marked);
  expect(shown.kind).toBe("shown");
  expect(once).toMatchObject({ kind: "answered", result: shown });
});

test("gives its best guess where the editor stays silent because nothing is sure, and no wild one", async () => {
  engine.script = () => ({ pieces: ["total"], stopType: "word", logProb: Math.log(0.1) });
  expect(await inEditor("x = <|>\ny = 2")).toMatchObject({ kind: "nothing" });
  const once = await completeOnce(connection, queryOf("x = <|>\ny = 2"));
  expect(once).toMatchObject({ kind: "answered", result: { kind: "shown", text: "total" } });
  engine.script = () => ({ pieces: ["total"], stopType: "word", logProb: Math.log(0.01) });
  const wild = await completeOnce(connection, queryOf("x = <|>\ny = 3"));
  expect(wild).toMatchObject({ kind: "answered", result: { kind: "nothing" } });
});

test("fails with the engine, even where the file says what follows", async () => {
  engine.script = () => failure("internal", "out of blocks");
  const once = await completeOnce(connection, queryOf(`${REPEATED}tot<|>\n`));
  expect(once).toMatchObject({ kind: "failed" });
});
