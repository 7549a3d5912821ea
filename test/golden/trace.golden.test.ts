// What "Why No Suggestion?" shows and "Copy Completion Report" copies, for one request whose times are set by hand.
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { resultAt } from "../../src/completion/answerResult.ts";
import { siteOf } from "../../src/completion/documentSnapshot.ts";
import { CompletionTrace } from "../../src/completion/trace/completionTrace.ts";
import { explanationOf } from "../../src/completion/trace/explanation.ts";
import { documentOf, documentWithoutCode } from "../../src/completion/trace/traceDocument.ts";
import { figuresOf } from "../../src/completion/trace/traceFigures.ts";
import { reportOf } from "../../src/completion/trace/traceReport.ts";

const about = { Tidepool: "0.1.0", model: "tidepool-mini" };

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["Date", "performance"], now: Date.UTC(2026, 0, 2, 3, 4, 5, 678) });
});
afterEach(() => {
  vi.useRealTimers();
});

/** A request in the middle of a function: the model was unsure, and a filter cut what it said. */
function unsureRequest(): CompletionTrace {
  const trace = new CompletionTrace();
  const text = "def total(items):\n    sum = 0\n    \n    return sum\n";
  const site = siteOf({ filename: "shop.py", text, offset: text.indexOf("    return") - 1 });
  const tokens = [
    { text: "for", logProb: Math.log(0.2) },
    { text: " item", logProb: Math.log(0.9) },
    { text: " in items:\n        sum += item\n    return sum", logProb: Math.log(0.5) },
  ];
  const said = tokens.map((token) => token.text).join("");
  trace.asked = {
    document: "file:///shop.py",
    extension: ".py",
    languageId: "python",
    trigger: "typing",
    mode: "balanced",
    learned: "nothing learned yet",
  };
  trace.settings = { debounceMs: 20, maxTokens: 96, multiline: "auto", budgetMs: 500 };
  trace.site = site;
  trace.sure = 0.33;
  trace.stage("trigger", 0, "a key, or a move");
  vi.advanceTimersByTime(1);
  trace.stage("file guard", 0, "nothing speaks against it");
  vi.advanceTimersByTime(20);
  trace.stage("debounce", 1, "20 ms set");
  trace.generation = {
    request: {
      input_prefix: site.prefix,
      input_suffix: site.suffix,
      input_extra: [{ filename: "cart.py", text: "def price(item): ..." }],
      n_predict: 96,
    },
    tokens,
    startedAt: performance.now(),
    firstTokenAt: performance.now() + 12,
    endedAt: performance.now() + 20,
    prompt: { tokens: 41, cached: 32, queueMs: 0.5, promptMs: 11.5 },
    ending: "enough",
  };
  vi.advanceTimersByTime(20);
  const answer = { site, mode: "multi" as const, text: said, tokens, cutByLimit: false };
  const steps = trace.filtering("model", said, tokens);
  const { result } = resultAt(answer, site, trace.sure, steps);
  trace.finish(explanationOf(result, "model"));
  return trace;
}

function expectGolden(name: string, text: string): void {
  const path = join(import.meta.dirname, "trace", name);
  if (process.env["UPDATE_GOLDEN"] === "1") writeFileSync(path, text);
  expect(existsSync(path), `${path} exists`).toBe(true);
  expect(text).toBe(readFileSync(path, "utf8"));
}

test("the document tells all of a request, code and prompt with it", () => {
  const trace = unsureRequest();
  expectGolden("document.txt", documentOf(trace, [figuresOf(trace)], about));
});

test("the report tells the same without code", () => {
  const trace = unsureRequest();
  const report = reportOf(figuresOf(trace), [figuresOf(trace)], about);
  expect(report).not.toMatch(/item|shop|cart|price/);
  expectGolden("report.txt", report);
});

test("an old request is told by its figures", () => {
  expectGolden("old.txt", documentWithoutCode(figuresOf(unsureRequest()), [], about));
});

test("a request that was not made says why, and what to do", () => {
  const trace = new CompletionTrace();
  trace.finish({
    kind: "not-asked",
    why: { kind: "refused", because: "the file holds a key or a password" },
  });
  expectGolden("refused.txt", documentOf(trace, [], about));
});
