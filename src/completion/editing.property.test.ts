// Whatever is typed, deleted, accepted and undone: what is asked and shown is what a fresh controller would ask and show.
import fc from "fast-check";
import { expect, test } from "vitest";
import type { InfillRequest } from "../../engine/protocol/api.ts";
import type { AnswerToken, EngineApi, InfillOutcome } from "../engineClient/engineApi.ts";
import { CompletionController } from "./completionController.ts";
import type { CompletionResult } from "./completionResult.ts";
import { siteOf } from "./documentSnapshot.ts";
import { windowOf } from "./promptWindow.ts";
import { CompletionTrace } from "./trace/completionTrace.ts";
import { isAutoClosed } from "./typedAhead.ts";

/** What the user is going to write, and what the engine says of it where the text so far agrees. */
const TARGET = 'def f(a):\n    x = g(a, "🌊 b")\n    return x\n\nprint(f([1, 2]))\n';

function answerTo({ input_prefix, stop = [] }: InfillRequest): { text: string; logProb: number } {
  if (!TARGET.startsWith(input_prefix)) return { text: "zz", logProb: -9 };
  const rest = TARGET.slice(input_prefix.length);
  const ends = stop.map((mark) => rest.indexOf(mark)).filter((at) => at >= 0);
  return { text: rest.slice(0, Math.min(rest.length, ...ends)), logProb: -0.001 };
}

/** Answers at once, in pieces of a few characters, and remembers what it was asked. */
class OracleEngine implements EngineApi {
  readonly requests: InfillRequest[] = [];

  infill(
    request: InfillRequest,
    { onText, signal }: Parameters<EngineApi["infill"]>[1] = {},
  ): Promise<InfillOutcome> {
    this.requests.push(request);
    const { text, logProb } = answerTo(request);
    const tokens: AnswerToken[] = (text.match(/[\s\S]{1,3}/gu) ?? []).map((part) => ({
      text: part,
      logProb,
    }));
    for (const token of tokens) {
      if (signal?.aborted) return Promise.resolve({ kind: "cancelled" });
      onText?.(token.text, [token]);
    }
    const response = {
      content: text,
      stop: true,
      stop_type: "word" as const,
      model: "",
      tokens: [],
      logprobs: [],
      texts: [],
      tokens_predicted: tokens.length,
      tokens_evaluated: 1,
      tokens_cached: 0,
      timings: { queue_ms: 0, prompt_ms: 0, predicted_ms: 0 },
    };
    return Promise.resolve({ kind: "done", text, response });
  }

  prefill(): Promise<void> {
    return Promise.resolve();
  }
}

type Edit = "type" | "mistype" | "open" | "delete" | "accept" | "word" | "undo" | "up";

const edits = fc.array(
  fc.constantFrom<Edit>(
    "type",
    "type",
    "mistype",
    "open",
    "delete",
    "accept",
    "word",
    "undo",
    "up",
  ),
  { minLength: 1, maxLength: 30 },
);

interface State {
  before: string;
  after: string;
}

const CLOSERS: Record<string, string> = { "(": ")", "[": "]", '"': '"' };

/** As an editor does it; brackets are closed behind the cursor and typed over. */
function typed({ before, after }: State, char: string): State {
  if (after.startsWith(char) && Object.values(CLOSERS).includes(char))
    return { before: before + char, after: after.slice(1) };
  return { before: before + char, after: (CLOSERS[char] ?? "") + after };
}

function nextState(state: State, edit: Edit, shown: CompletionResult, past: State[]): State {
  const { before, after } = state;
  const next = /^./su.exec(TARGET.slice(before.length))?.[0] ?? "";
  switch (edit) {
    case "type":
      return next === "" ? state : typed(state, next);
    case "mistype":
      return typed(state, "q");
    case "open":
      return typed(state, "(");
    case "delete":
      return { before: before.replace(/.$/su, ""), after };
    case "accept":
    case "word": {
      if (shown.kind === "nothing") return state;
      const text = edit === "accept" ? shown.text : (/^\s*\S\w*/.exec(shown.text)?.[0] ?? "");
      const replaced = edit === "accept" ? shown.replaceLength : 0;
      return { before: before + text, after: after.slice(replaced) };
    }
    case "undo":
      return past.at(-2) ?? state;
    case "up": {
      const line = before.lastIndexOf("\n", before.length - 2);
      return line < 0
        ? state
        : { before: before.slice(0, line), after: before.slice(line) + after };
    }
  }
}

function ask(
  controller: CompletionController,
  { before, after }: State,
  trace = new CompletionTrace(),
) {
  return controller.complete(
    {
      trace,
      snapshot: { filename: "a.txt", text: before + after, offset: before.length },
      trigger: "command",
      settings: { debounceMs: 0, maxTokens: 64, multiline: "auto" },
      context: () => Promise.resolve([]),
      related: () => Promise.resolve([]),
    },
    new AbortController().signal,
  );
}

/** How a result came about: what the engine was asked for it, and what the controller says of it. */
interface Seen {
  requests: readonly InfillRequest[];
  trace: CompletionTrace;
}

/** Takes a controller through `sequence`; `check` sees every state with what is shown there. */
async function follow(
  sequence: readonly Edit[],
  check: (state: State, shown: CompletionResult, seen: Seen) => Promise<void> | void,
): Promise<void> {
  const engine = new OracleEngine();
  const controller = new CompletionController(engine);
  let state: State = { before: "", after: "" };
  const past = [state];
  let shown = await ask(controller, state);
  for (const edit of sequence) {
    state = nextState(state, edit, shown, past);
    past.push(state);
    engine.requests.length = 0;
    const trace = new CompletionTrace();
    shown = await ask(controller, state, trace);
    await check(state, shown, { requests: engine.requests, trace });
    await controller.settled();
  }
  controller.dispose();
}

test("the prompt of every request is that of a fresh controller, apart from a bracket that the editor closed", async () => {
  await fc.assert(
    fc.asyncProperty(edits, (sequence) =>
      follow(sequence, ({ before, after }, _, { requests }) => {
        const request = requests.find(({ priority }) => priority === "completion");
        if (!request) return;
        const site = siteOf({ filename: "a.txt", text: before + after, offset: before.length });
        expect(request.input_prefix).toBe(windowOf(site).prefix);
        const held = request.input_suffix;
        expect(site.suffix.endsWith(held)).toBe(true);
        expect(isAutoClosed(site.suffix.slice(0, site.suffix.length - held.length))).toBe(true);
      }),
    ),
    { numRuns: 150 },
  );
});

test("what is shown from memory continues the text as the engine would, asked anew", async () => {
  await fc.assert(
    fc.asyncProperty(edits, (sequence) =>
      follow(sequence, (state, shown, { trace }) => {
        if (shown.kind === "nothing" || !TARGET.startsWith(state.before)) return;
        // A copy says what the document has elsewhere, mistypings too, and not what the engine would.
        if (trace.source === "copy") return;
        const accepted = state.before + shown.text;
        // Beyond a closer that the editor set, the text is cut or takes its place.
        const rest = state.after.slice(shown.replaceLength);
        const ends = TARGET.startsWith(accepted) || TARGET.startsWith(accepted + rest);
        expect(ends, `${JSON.stringify(state)} ${JSON.stringify(shown)}`).toBe(true);
      }),
    ),
    { numRuns: 150 },
  );
});

test("the same sequence gives the same results again, and a reset controller is a fresh one", async () => {
  await fc.assert(
    fc.asyncProperty(edits, async (sequence) => {
      const first: CompletionResult[] = [];
      await follow(sequence, (_, shown) => void first.push(shown));
      const second: CompletionResult[] = [];
      const engine = new OracleEngine();
      await follow(sequence, async (state, shown) => {
        second.push(shown);
        const used = new CompletionController(engine);
        await ask(used, { before: "x = ", after: "" });
        used.reset();
        const fresh = new CompletionController(engine);
        expect(await ask(used, state)).toEqual(await ask(fresh, state));
      });
      expect(second).toEqual(first);
    }),
    { numRuns: 50 },
  );
});
