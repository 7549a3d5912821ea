import { afterEach, beforeEach, expect, test } from "vitest";
import type { LockFile } from "../../engine/protocol/api.ts";
import { connectDaemon, type DaemonPlan, type Launched } from "./connectDaemon.ts";
import type { DaemonExit } from "./daemonProcess.ts";
import { FakeEngine } from "./fakeEngine.ts";

let engines: FakeEngine[];
let lock: LockFile | undefined;
let launches: number;

beforeEach(() => {
  engines = [];
  lock = undefined;
  launches = 0;
});

afterEach(async () => {
  for (const engine of engines) await engine.stop().catch(() => undefined);
});

async function fake(health: Parameters<typeof FakeEngine.start>[0] = {}): Promise<FakeEngine> {
  const engine = await FakeEngine.start(health);
  engines.push(engine);
  return engine;
}

function plan(onLaunch: () => Partial<Launched>, model?: string): DaemonPlan {
  return {
    launch: { script: "engine.js", args: [], runtimeDir: "unused", detached: true },
    needed: { version: "1.0.0", ...(model && { model }) },
    readLock: () => lock,
    start: () => {
      launches++;
      return { exit: undefined, release: () => undefined, ...onLaunch() };
    },
  };
}

function connect(onLaunch: () => Partial<Launched>, model?: string, phases: string[] = []) {
  const signal = new AbortController().signal;
  return connectDaemon(plan(onLaunch, model), { signal, onPhase: (phase) => phases.push(phase) });
}

const noLaunch = () => {
  throw new Error("expected no launch");
};

const ended = (exit: Partial<DaemonExit>): Partial<Launched> => ({
  exit: { code: null, signal: null, message: "", ...exit },
});

test("uses the daemon that runs", async () => {
  lock = (await fake()).lock;
  const link = await connect(noLaunch);
  expect(link.health.model.id).toBe("fake");
  link.connection.dispose();
});

test("starts one when there is no lock, and waits until it is ready", async () => {
  const engine = await fake({ status: "loading" });
  const phases: string[] = [];
  const link = await connectDaemon(
    plan(() => {
      lock = engine.lock;
      return {};
    }),
    {
      signal: new AbortController().signal,
      onPhase: (phase) => {
        phases.push(phase);
        if (phase === "loading the model") engine.health = { ...engine.health, status: "ready" };
      },
    },
  );
  expect(phases).toEqual(["starting the engine", "loading the model"]);
  expect(launches).toBe(1);
  link.connection.dispose();
});

test("starts one when the lock is stale", async () => {
  const gone = await fake();
  lock = gone.lock;
  await gone.stop();
  const engine = await fake();
  const link = await connect(() => {
    lock = engine.lock;
    return {};
  });
  expect(link.connection).toBeDefined();
  link.connection.dispose();
});

test("replaces an older daemon", async () => {
  const old = await fake({ version: "0.9.0" });
  const current = await fake({ pid: 2 });
  lock = old.lock;
  old.onShutdown = () => {
    lock = undefined;
  };
  const link = await connect(() => {
    lock = current.lock;
    return {};
  });
  expect(old.shutdowns).toBe(1);
  expect(link.health.pid).toBe(2);
  link.connection.dispose();
});

test("uses the winner's daemon when its own lost the race", async () => {
  const winner = await fake();
  const link = await connect(() => {
    lock = winner.lock;
    return ended({ code: 0 });
  });
  expect(launches).toBe(1);
  link.connection.dispose();
});

test("gives the daemon's own reason when it ends at once", async () => {
  const attempt = connect(() =>
    ended({ code: 1, message: "a.gguf: expected GGUF, found nothing" }),
  );
  await expect(attempt).rejects.toMatchObject({
    code: "start_failed",
    message: "a.gguf: expected GGUF, found nothing",
  });
});

test("gives the reason of a daemon that reports failure", async () => {
  const engine = await fake({ status: "failed", reason: "no memory" });
  const attempt = connect(() => {
    lock = engine.lock;
    return {};
  });
  await expect(attempt).rejects.toMatchObject({ code: "start_failed", message: "no memory" });
});

test("gives up after daemons that end again and again without a lock", async () => {
  await expect(connect(() => ended({ code: 0 }))).rejects.toMatchObject({ code: "unreachable" });
  expect(launches).toBe(3);
});

test("stops waiting when it is cancelled", async () => {
  const signal = AbortSignal.abort();
  await expect(
    connectDaemon(
      plan(() => ({})),
      { signal },
    ),
  ).rejects.toMatchObject({ code: "unreachable" });
});
