/** The engine under somebody who types: healed words, alternatives, prompts read ahead, and what the cache saves. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import type { InfillResponse, PrefillResponse } from "../../engine/protocol/api.ts";
import { Daemon, eventsOf, eventually, runtimeFolder } from "../support/daemon.ts";

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

async function ask<T>(path: string, body: object): Promise<T> {
  const { status, text } = await engine.post(path, body);
  expect(status, text).toBe(200);
  return JSON.parse(text) as T;
}

const infill = (body: object) =>
  ask<InfillResponse>("/infill", { input_suffix: "\nmore()\n", n_predict: 6, ...body });
const lines = "const value = compute(other, 12);\n".repeat(20);

describe("/infill while somebody types", () => {
  test("a typed word costs no new token but the last", async () => {
    await infill({ input_prefix: `${lines}x = ` });
    for (const typed of ["r", "re", "ret", "retu", "retur", "ret", "r"]) {
      const { tokens_evaluated, tokens_cached } = await infill({
        input_prefix: `${lines}x = ${typed}`,
      });
      expect(tokens_evaluated - tokens_cached).toBeLessThanOrEqual(2);
    }
  });

  test("a healed answer goes on where the text stops, whole and streamed", async () => {
    for (const input_prefix of ["def f():\n    retu", "é", "x.", "  ", "a\u{1F642}"]) {
      const whole = await infill({ input_prefix });
      expect(whole.texts.join("")).toContain(whole.content);
      expect(whole.logprobs).toHaveLength(whole.tokens.length);
      for (const logProb of whole.logprobs) expect(logProb).toBeLessThanOrEqual(1e-4);
      const body = { input_prefix, input_suffix: "\nmore()\n", n_predict: 6, stream: true };
      const { text } = await engine.post("/infill", body);
      const events = eventsOf(text) as { content: string; stop: boolean; texts: string[] }[];
      const pieces = events.filter(({ stop }) => !stop);
      expect(pieces.map(({ content }) => content).join("")).toBe(whole.content);
      expect(pieces.flatMap(({ texts }) => texts)).toEqual(whole.texts);
    }
  });

  test("without healing the prompt holds the whole line", async () => {
    const healed = await infill({ input_prefix: "x = returned" });
    const plain = await infill({ input_prefix: "x = returned", heal: false });
    expect(plain.tokens_evaluated).toBeGreaterThan(healed.tokens_evaluated);
  });

  test("alternatives differ from the first token on and compute the prompt once", async () => {
    const body = { input_prefix: `${lines}// three\nlet y = `, n: 3 };
    const { content, alternatives = [] } = await infill(body);
    const all = [content, ...alternatives.map((other) => other.content)];
    expect(new Set(all).size).toBe(3);
  });

  test("alternatives that nobody waits for leave nothing behind", async () => {
    const body = { input_prefix: lines, input_suffix: "", n_predict: 3000, n: 4 };
    const sent = engine.open("POST", "/infill", JSON.stringify(body));
    sent.on("error", () => undefined);
    await eventually(
      async () => ((await engine.state()).sequences.running > 0 ? true : undefined),
      "the alternatives to run",
    );
    sent.destroy();
    await eventually(async () => {
      const { requests } = await engine.state();
      const ended = requests.finished + requests.cancelled + requests.failed;
      return ended === requests.accepted ? true : undefined;
    }, "every alternative to end");
  });
});

describe("/tidepool/prefill", () => {
  const input_extra = [{ filename: "other.ts", text: "export const other = 1;\n".repeat(30) }];

  test("what was read ahead is in the cache of the next completion, and stays", async () => {
    const place = { input_prefix: "import { other }\nlet z = ", input_suffix: "\n", input_extra };
    const first = await ask<PrefillResponse>("/tidepool/prefill", { ...place, resident: "w" });
    expect(first.tokens).toBeGreaterThan(100);
    const { tokens_evaluated, tokens_cached } = await infill(place);
    expect(tokens_evaluated - tokens_cached).toBeLessThanOrEqual(2);
    expect((await engine.state()).kv.tokensPinned).toBeGreaterThan(0);
    await ask("/tidepool/prefill", { resident: "w" });
    expect((await engine.state()).kv.tokensPinned).toBe(0);
  });

  test("a reader that goes away ends it", async () => {
    const body = { input_extra: [{ filename: "long.ts", text: lines.repeat(60) }], resident: "l" };
    const sent = engine.open("POST", "/tidepool/prefill", JSON.stringify(body));
    sent.on("error", () => undefined);
    await eventually(
      async () => ((await engine.state()).requests.accepted > 0 ? true : undefined),
      "the prefill to be accepted",
    );
    sent.destroy();
    await eventually(async () => {
      const { requests } = await engine.state();
      const ended = requests.finished + requests.cancelled + requests.failed;
      return ended === requests.accepted ? true : undefined;
    }, "the prefill to end");
  });
});
