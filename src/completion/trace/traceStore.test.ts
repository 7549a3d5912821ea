import { expect, test } from "vitest";
import { CompletionTrace } from "./completionTrace.ts";
import type { Explanation } from "./explanation.ts";
import { TraceStore } from "./traceStore.ts";

const unsure: Explanation = { kind: "nothing", reason: "unsure" };
const superseded: Explanation = { kind: "nothing", reason: "superseded" };

function ended(document: string, outcome: Explanation = unsure): CompletionTrace {
  const trace = new CompletionTrace();
  trace.asked = {
    document,
    extension: ".ts",
    languageId: "typescript",
    trigger: "typing",
    mode: "balanced",
    learned: "",
  };
  trace.finish(outcome);
  return trace;
}

function storeOf(...traces: CompletionTrace[]): TraceStore {
  const store = new TraceStore();
  for (const trace of traces) store.add(trace);
  return store;
}

test("keeps the last twenty requests, and the code of the last four only", () => {
  const traces = Array.from({ length: 30 }, () => ended("a"));
  const store = storeOf(...traces);
  expect(store.all()).toHaveLength(20);
  for (const document of ["b", "c", "d", "e"]) store.add(ended(document));
  expect(store.latest("a")).toMatchObject({ trace: undefined, figures: { outcome: unsure } });
});

test("finds the newest request of the document that is asked about", () => {
  const [first, second, other] = [ended("a"), ended("a"), ended("b")];
  expect(storeOf(first, second, other).latest("a")?.trace).toBe(second);
});

test("finds the newest of all for a document that nothing was asked in", () => {
  const [first, second] = [ended("a"), ended("b")];
  expect(storeOf(first, second).latest("c")?.trace).toBe(second);
});

test("looks past requests that the next key made obsolete", () => {
  const [told, next, last] = [ended("a"), ended("a", superseded), ended("a", superseded)];
  expect(storeOf(told, next, last).latest("a")?.trace).toBe(told);
  expect(storeOf(next, last).latest("a")?.trace).toBe(last);
});

test("knows nothing before the first request", () => {
  expect(new TraceStore().latest("a")).toBeUndefined();
});
