import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { EngineOptions } from "./engine.ts";
import type { HostKind, HostListeners } from "./engineHost.ts";
import type { FromEngine, ToEngine } from "./engineMessages.ts";
import { greedyInput } from "./engineRun.ts";
import { HostedEngine } from "./hostedEngine.ts";
import type { GenerationEvent, GenerationResult } from "./scheduler/request.ts";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

interface FakeHost {
  kind: HostKind;
  options: EngineOptions;
  sent: ToEngine[];
  isClosed: boolean;
  listeners: HostListeners;
}

const model = { id: "m", path: "/m.gguf", contextLength: 64, device: "CUDA", fim: true };
const ready: FromEngine = { type: "ready", model, notes: ["a note"], onGpu: true };
const result: GenerationResult = {
  ...{ promptTokens: 1, cachedTokens: 0, queueMs: 0, promptMs: 0, predictedMs: 0 },
  ...{ finish: "eos", drafts: { drafted: 0, accepted: 0 } },
};
const input = greedyInput({ kind: "text", text: "a" }, 4);

function hosted(device: "cpu" | "cuda", gpuIdleMs = 0) {
  const hosts: FakeHost[] = [];
  const engine = new HostedEngine(
    "engine.js",
    { modelPath: "/m.gguf", threads: 1, device },
    {
      gpuIdleMs,
      start: (kind, _script, options, listeners) => {
        const host: FakeHost = { kind, options, sent: [], isClosed: false, listeners };
        hosts.push(host);
        return {
          send: (message) => void host.sent.push(message),
          close: () => {
            host.isClosed = true;
            return Promise.resolve();
          },
        };
      },
    },
  );
  const last = () => {
    const host = hosts.at(-1);
    if (host === undefined) throw new Error("expected a host");
    return host;
  };
  const start = () => {
    const events: GenerationEvent[] = [];
    engine.generate(input, (event) => events.push(event));
    return events;
  };
  const finish = (id: number) =>
    last().listeners.onMessage({
      type: "events",
      events: [{ id, event: { type: "done", text: "", result } }],
    });
  return { engine, hosts, last, start, finish };
}

const LOST: FromEngine = { type: "failed", code: "device", message: "an illegal address" };

test("a lost device ends every request once, restarts clean, and is given up when it repeats", () => {
  const { engine, hosts, last, start } = hosted("cuda");
  last().listeners.onMessage(ready);
  const events = [start(), start()];
  last().listeners.onMessage(LOST);
  last().listeners.onEnd("the engine's process ended with code 0");
  for (const heard of events)
    expect(heard).toEqual([{ type: "error", code: "device", message: "an illegal address" }]);
  const reason = "restarted, because the GPU failed: an illegal address";
  expect(engine.status).toMatchObject({ phase: "loading", reason });
  expect([hosts.length, hosts[0]?.isClosed]).toEqual([1, true]);
  vi.advanceTimersByTime(250);
  expect(hosts.length).toBe(2);
  last().listeners.onMessage(ready);
  expect(engine.status).toMatchObject({ phase: "ready", reason });
  last().listeners.onMessage(LOST);
  vi.advanceTimersByTime(1999);
  expect(hosts.length).toBe(2);
  vi.advanceTimersByTime(1);
  // Lost while it loads: that counts as well.
  last().listeners.onMessage(LOST);
  expect(last()).toMatchObject({ kind: "thread", options: { device: "cpu" } });
  last().listeners.onMessage({ ...ready, onGpu: false });
  expect(engine.status).toMatchObject({
    phase: "ready",
    reason: "on the CPU, because the GPU failed repeatedly: an illegal address",
  });
});

test("a process that ends is a loss, but one that never loaded has failed for good", () => {
  const { engine, hosts, last, start } = hosted("cuda");
  last().listeners.onMessage(ready);
  const events = start();
  last().listeners.onEnd("the engine's process ended with SIGSEGV");
  expect(events).toMatchObject([{ type: "error", message: /SIGSEGV/ }]);
  vi.advanceTimersByTime(250);
  expect(hosts.length).toBe(2);
  const other = hosted("cuda");
  other.last().listeners.onMessage({ type: "failed", code: "device", message: "no driver" });
  vi.advanceTimersByTime(60_000);
  expect(other.engine.status).toEqual({ phase: "failed", reason: "no driver" });
  expect(other.hosts.length).toBe(1);
  void engine.close();
});

test("gives the card back when idle, and loads again for the next request, which waits", async () => {
  const { engine, hosts, last, start, finish } = hosted("cuda", 1000);
  last().listeners.onMessage(ready);
  const first = start();
  vi.advanceTimersByTime(5000);
  expect([hosts[0]?.isClosed, first.length]).toEqual([false, 0]);
  finish(1);
  vi.advanceTimersByTime(999);
  expect(engine.status.weights).toBeUndefined();
  vi.advanceTimersByTime(1);
  expect(engine.status).toMatchObject({ phase: "ready", weights: "released" });
  expect(hosts[0]?.isClosed).toBe(true);
  expect((await engine.stats()).kv.blocksTotal).toBe(0);
  expect(hosts.length).toBe(1);
  const second = start();
  expect(engine.status.weights).toBe("reloading");
  expect(last().sent).toMatchObject([{ type: "submit", id: 2 }]);
  last().listeners.onMessage(ready);
  expect(engine.status.weights).toBeUndefined();
  finish(2);
  expect(second).toMatchObject([{ type: "done" }]);
});

test("when the card is taken meanwhile, the request fails and the next one tries again", () => {
  const { engine, hosts, last, start } = hosted("cuda", 1000);
  last().listeners.onMessage(ready);
  vi.advanceTimersByTime(1000);
  const events = start();
  last().listeners.onMessage({ type: "failed", code: "out_of_memory", message: "no room" });
  expect(events).toEqual([{ type: "error", code: "out_of_memory", message: "no room" }]);
  expect(engine.status).toMatchObject({ phase: "ready", weights: "released" });
  start();
  expect(hosts.length).toBe(3);
});

test("an engine on the CPU keeps its memory, and runs in a thread", () => {
  const { engine, last } = hosted("cpu", 1000);
  last().listeners.onMessage({ ...ready, onGpu: false });
  vi.advanceTimersByTime(100_000);
  expect(engine.status.weights).toBeUndefined();
  expect(last()).toMatchObject({ kind: "thread", isClosed: false });
});
