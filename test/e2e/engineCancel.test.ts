/** Requests that are given up: nothing stays behind, and the thread that answers HTTP never waits for arithmetic. */
import { once } from "node:events";
import type { IncomingMessage } from "node:http";
import { availableParallelism, loadavg } from "node:os";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { EngineState } from "../../engine/protocol/api.ts";
import { Daemon, eventually, runtimeFolder } from "../support/daemon.ts";

/** Processes that wanted a core in the minute before these tests. */
const load = loadavg()[0] ?? 0;
const folder = runtimeFolder();
let engine: Daemon;
beforeAll(async () => {
  // V8 lets the youngest garbage of both threads grow to 96 MiB, which would hide a leak; live data is the same without it.
  engine = folder.track(new Daemon(folder.dir, [], { NODE_OPTIONS: "--max-semi-space-size=1" }));
  await engine.ready();
});
afterAll(folder.clean);

const line = "const total = items.map((item) => item.price * item.count).reduce(add, 0);\n";

function longRequest(prefix: string, stream: boolean) {
  const body = { input_prefix: prefix, input_suffix: "\n", n_predict: 4000, stream };
  const sent = engine.open("POST", "/infill", JSON.stringify(body));
  // Dropping the connection below is an error to the sender's side.
  sent.on("error", () => undefined);
  return sent;
}

/** Waits until nothing runs, and checks that every request so far ended exactly once. */
async function atRest(): Promise<EngineState> {
  const state = await eventually(async () => {
    const found = await engine.state();
    const { accepted, finished, cancelled, failed } = found.requests;
    expect(finished + cancelled + failed).toBeLessThanOrEqual(accepted);
    return finished + cancelled + failed === accepted ? found : undefined;
  }, "every request to end");
  expect(state.sequences).toEqual({ running: 0, waiting: 0 });
  expect(state.kv.blocksUsed).toBe(0);
  return state;
}

/** Starts and drops `n` requests, each after another short time. */
async function startAndDrop(n: number): Promise<void> {
  for (let i = 0; i < n; i++) {
    const sent = longRequest(`// request ${i}\n${line.repeat(i % 12)}let x = `, i % 2 === 0);
    await once(sent, "finish");
    await delay(i % 9);
    sent.destroy();
  }
}

test("200 start and cancel pairs leave no sequence, no used block and no memory", async () => {
  // Caches that fill up once (blocks, words, code that gets compiled) are no growth: they fill before the measurement.
  await startAndDrop(200);
  const before = await atRest();
  await startAndDrop(200);
  const after = await atRest();
  const { accepted, cancelled, failed } = after.requests;
  expect(failed).toBe(0);
  expect(accepted - before.requests.accepted).toBeLessThanOrEqual(200);
  expect(cancelled - before.requests.cancelled).toBeGreaterThan(150);
  const grownMiB = (after.memory.rssBytes - before.memory.rssBytes) / 2 ** 20;
  // 2000 pairs level off below 25 MiB; a request that left its 4000 tokens or its buffers behind would go beyond at once.
  expect(grownMiB).toBeLessThan(24);
});

test("a client that vanishes in the middle of a stream cancels its request", async () => {
  const before = await atRest();
  const sent = longRequest("let middle = ", true);
  const [message] = (await once(sent, "response")) as [IncomingMessage];
  await once(message, "data");
  message.on("error", () => undefined);
  sent.destroy();
  const after = await atRest();
  expect(after.requests.cancelled).toBe(before.requests.cancelled + 1);
});

test("a client that vanishes while it waits for a whole answer cancels its request", async () => {
  const before = await atRest();
  const sent = longRequest("let whole = ", false);
  await eventually(
    async () => ((await engine.state()).sequences.running > 0 ? true : undefined),
    "the request to run",
  );
  sent.destroy();
  const after = await atRest();
  expect(after.requests.cancelled).toBe(before.requests.cancelled + 1);
});

test("requests beyond what a step takes wait, and the event stream says how many", async () => {
  const events = engine.open("GET", "/tidepool/events");
  events.on("error", () => undefined);
  const [message] = (await once(events, "response")) as [IncomingMessage];
  let text = "";
  message.on("data", (chunk: Buffer) => {
    text += chunk.toString();
  });
  message.on("error", () => undefined);
  const all = Array.from({ length: 24 }, (_, i) => longRequest(`let v${i} = `, true));
  await eventually(
    () => (text.includes('{"running":16,"waiting":8}') ? true : undefined),
    "16 running and 8 waiting",
  );
  for (const sent of all) sent.destroy();
  await atRest();
  await eventually(
    () => (text.trimEnd().endsWith('data: {"running":0,"waiting":0}') ? true : undefined),
    "nothing running",
  );
  events.destroy();
});

/** Has long prompts computed, one after the other and all different, until `signal`. */
async function computePrompts(name: string, signal: AbortSignal): Promise<void> {
  for (let i = 0; !signal.aborted; i++) {
    const input_prefix = `// ${name} ${i}\n${line.repeat(250)}let y = `;
    const { status } = await engine.post("/infill", {
      input_prefix,
      input_suffix: "",
      n_predict: 0,
    });
    expect(status).toBe(200);
  }
}

/** Milliseconds within which 99 of 100 questions about health are answered while long prompts are computed. */
async function healthP99(round: number): Promise<number> {
  const done = new AbortController();
  // Two at a time, so that there is never nothing to compute.
  const busy = ["a", "b"].map((name) => computePrompts(`${round}${name}`, done.signal));
  await eventually(
    async () => ((await engine.state()).sequences.running > 0 ? true : undefined),
    "a prompt to be computed",
  );
  const times: number[] = [];
  for (let i = 0; i < 300; i++) {
    const startedAt = performance.now();
    expect((await engine.get("/health")).status).toBe(200);
    times.push(performance.now() - startedAt);
  }
  const { running, waiting } = (await engine.state()).sequences;
  expect(running + waiting).toBeGreaterThan(0);
  done.abort();
  await Promise.all(busy);
  await atRest();
  times.sort((a, b) => a - b);
  return times[Math.floor(times.length * 0.99)] ?? Number.NaN;
}

test("/health answers at once while long prompts are computed", async () => {
  // Where other programs wait for the same cores, what is measured is also how long the system lets the engine wait.
  const isShared = process.env["CI"] !== undefined || load > availableParallelism();
  const limitMs = isShared ? 50 : 20;
  // What else runs on the machine can spoil a round; waiting for arithmetic would spoil them all.
  let best = Infinity;
  for (let round = 0; round < 3 && !(best <= limitMs); round++)
    best = Math.min(best, await healthP99(round));
  process.stdout.write(
    `/health during a prefill: p99 ${best.toFixed(1)} ms of ${limitMs}, load ${load.toFixed(1)}\n`,
  );
  expect(best).toBeLessThanOrEqual(limitMs);
});
