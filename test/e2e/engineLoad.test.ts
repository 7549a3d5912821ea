/** Many clients at once and one after the other: 1000 cancelled requests leak nothing, and a long prompt starves nobody. */
import { once } from "node:events";
import { readdirSync } from "node:fs";
import type { ClientRequest, IncomingMessage } from "node:http";
import path from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, describe, expect, test } from "vitest";
import type { EngineState } from "../../engine/protocol/api.ts";
import { Daemon, eventually, runtimeFolder } from "../support/daemon.ts";
import { emulatedGpu } from "../support/emulatedGpu.ts";

const mini = path.resolve(import.meta.dirname, "../../engine/models/tidepool-mini.gguf");
const line = "const total = items.map((item) => item.price * item.count).reduce(add, 0);\n";
const folders: ReturnType<typeof runtimeFolder>[] = [];
afterAll(async () => {
  for (const folder of folders) await folder.clean();
});

/** V8 lets the youngest garbage grow to 96 MiB, which would hide a leak; live data is the same without it. */
async function started(args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<Daemon> {
  const folder = runtimeFolder();
  folders.push(folder);
  const options = { NODE_OPTIONS: "--max-semi-space-size=1", ...env };
  const daemon = folder.track(new Daemon(folder.dir, args, options));
  await daemon.ready();
  return daemon;
}

function infill(daemon: Daemon, prefix: string, stream: boolean): ClientRequest {
  const body = { input_prefix: prefix, input_suffix: "\n", n_predict: 2000, stream };
  const sent = daemon.open("POST", "/infill", JSON.stringify(body));
  // Dropping the connection is an error to the sender's side.
  sent.on("error", () => undefined);
  return sent;
}

/** Starts and drops `n` requests, two at a time: before they are admitted, in their prompt, while they generate. */
async function cancelMany(daemon: Daemon, n: number): Promise<void> {
  const one = async (i: number) => {
    const sent = infill(daemon, `// request ${i}\n${line.repeat(i % 12)}let x = `, i % 2 === 0);
    await once(sent, "finish");
    await delay(2 + ((i * 7) % 23));
    sent.destroy();
  };
  const lane = async (first: number) => {
    for (let i = first; i < n; i += 2) await one(i);
  };
  await Promise.all([0, 1].map(lane));
}

/** Everything that a request could leave behind, once nothing runs. */
interface Level {
  state: EngineState;
  nHandles: number;
}

async function atRest(daemon: Daemon): Promise<Level> {
  const state = await eventually(async () => {
    const found = await daemon.state();
    const { accepted, finished, cancelled, failed } = found.requests;
    return finished + cancelled + failed === accepted ? found : undefined;
  }, "every request to end");
  return { state, nHandles: readdirSync(`/proc/${daemon.child.pid}/fd`).length };
}

/**
 * MiB that the process has grown by at least: the garbage of a moment is up to 20 MiB, but what leaks stays through
 * more requests. (1000 requests of 2000 tokens and their buffers would take far more.)
 */
async function leastGrowth(daemon: Daemon, from: number, first: Level): Promise<number> {
  let least = first.state.memory.rssBytes - from;
  for (let round = 0; round < 4 && least >= 24 * 2 ** 20; round++) {
    await cancelMany(daemon, 200);
    least = Math.min(least, (await atRest(daemon)).state.memory.rssBytes - from);
  }
  return least / 2 ** 20;
}

describe.each<[string, number, number, () => Promise<Daemon>]>([
  ["tidepool-mini on the CPU", 1000, 1500, () => started(["--model", mini, "--context", "2048"])],
  ["the emulated GPU", 60, 20, () => started(["--device", "cuda"], emulatedGpu())],
])("%s", (_name, nRequests, nWarm, start) => {
  test(`${nRequests} cancelled requests leave no block, no stream and no memory`, async () => {
    const daemon = await start();
    // Caches that fill up once are no growth: blocks, words, code that gets compiled.
    await cancelMany(daemon, nWarm);
    const before = await atRest(daemon);
    await cancelMany(daemon, nRequests);
    const after = await atRest(daemon);
    const cancelled = after.state.requests.cancelled - before.state.requests.cancelled;
    expect(cancelled).toBeGreaterThan(0.7 * nRequests);
    expect(after.state.requests.failed).toBe(0);
    expect(after.state.sequences).toEqual({ running: 0, waiting: 0 });
    expect(after.state.kv.blocksUsed).toBe(0);
    expect(after.state.kv.tokensPinned).toBe(0);
    expect(after.nHandles).toBeLessThanOrEqual(before.nHandles + 1);
    expect(await leastGrowth(daemon, before.state.memory.rssBytes, after)).toBeLessThan(24);
  });
});

/** Times at which parts of a stream arrived, in milliseconds, until `signal`. */
async function arrivals(sent: ClientRequest, signal: AbortSignal): Promise<number[]> {
  const times: number[] = [];
  signal.addEventListener("abort", () => sent.destroy());
  const [message] = (await once(sent, "response")) as [IncomingMessage];
  message.on("data", () => times.push(performance.now()));
  await new Promise((resolve) => message.once("close", resolve).on("error", resolve));
  return times;
}

test("two clients stream while a third has a long prompt read, and both keep receiving tokens", async () => {
  const daemon = await started(["--model", mini]);
  const stop = new AbortController();
  const streams = ["a", "b"].map((name) =>
    arrivals(infill(daemon, `// ${name}\nlet ${name} = [`, true), stop.signal),
  );
  await eventually(
    async () => ((await daemon.state()).sequences.running === 2 ? true : undefined),
    "two streams",
  );
  const from = performance.now();
  const prompt = { input_prefix: line.repeat(400), input_suffix: "\n", n_predict: 1 };
  const { status, text } = await daemon.post("/infill", prompt);
  const to = performance.now();
  stop.abort();
  expect(status).toBe(200);
  expect((JSON.parse(text) as { tokens_evaluated: number }).tokens_evaluated).toBeGreaterThan(6000);
  for (const times of await Promise.all(streams)) {
    const within = [from, ...times.filter((at) => at > from && at < to), to];
    const gaps = within.slice(1).map((at, i) => at - (within[i] ?? at));
    expect(within.length).toBeGreaterThan(20);
    // A step takes 32 ms; one that waited for the prompt would wait for all of it.
    expect(Math.max(...gaps)).toBeLessThan(Math.max(500, (to - from) / 4));
  }
});
