import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { silentLogger } from "../base/logger.ts";
import type { DaemonLink } from "./connectDaemon.ts";
import { EngineConnection } from "./connection.ts";
import { EngineClient } from "./engineClient.ts";
import { EngineFailure } from "./engineFailure.ts";
import type { EngineState } from "./engineState.ts";
import { FakeEngine } from "./fakeEngine.ts";

let engine: FakeEngine;
let client: EngineClient;
let states: EngineState["kind"][];
let connects: number;

function link(): DaemonLink {
  const model = engine.health.model;
  if (!model) throw new Error("expected a fake with a model");
  return { connection: new EngineConnection(engine.socket), health: { ...engine.health, model } };
}

function build(connect: () => DaemonLink | Promise<DaemonLink>): EngineClient {
  const built = new EngineClient(async () => {
    connects++;
    return await connect();
  }, silentLogger);
  built.onState((state) => states.push(state.kind));
  return built;
}

const reach = (kind: EngineState["kind"]) =>
  vi.waitFor(() => expect(client.state.kind).toBe(kind), 5000);

beforeEach(async () => {
  states = [];
  connects = 0;
  engine = await FakeEngine.start();
});

afterEach(async () => {
  client.dispose();
  await engine.stop().catch(() => undefined);
});

test("goes from stopped over starting to ready, and works while a request runs", async () => {
  client = build(link);
  client.start();
  client.start();
  await reach("ready");
  const outcome = await client.infill({ input_prefix: "", input_suffix: "" });
  expect(outcome).toMatchObject({ kind: "done", text: "fake" });
  expect(states).toEqual(["starting", "ready", "working", "ready"]);
  expect(connects).toBe(1);
});

test("refuses a request before it is ready, without throwing", async () => {
  client = build(link);
  const outcome = await client.infill({ input_prefix: "", input_suffix: "" });
  expect(outcome).toMatchObject({ kind: "failed", failure: { code: "not_ready" } });
});

test("comes back when the daemon dies", async () => {
  client = build(link);
  client.start();
  await reach("ready");
  const died = engine;
  await vi.waitFor(() => expect(died.present).toBe(1));
  engine = await FakeEngine.start({ pid: 2 });
  await died.stop();
  await vi.waitFor(() => expect(connects).toBe(2));
  await reach("ready");
  const outcome = await client.infill({ input_prefix: "", input_suffix: "" });
  expect(outcome.kind).toBe("done");
});

test("fails at once with the daemon's own reason, and starts again when asked", async () => {
  let broken = true;
  client = build(() => {
    if (broken) throw new EngineFailure("start_failed", "no such model");
    return link();
  });
  client.start();
  await reach("failed");
  expect(client.state).toEqual({ kind: "failed", reason: "no such model" });
  expect(connects).toBe(1);
  broken = false;
  await client.restart();
  await reach("ready");
});

test("gives up after too many restarts in a row", async () => {
  vi.useFakeTimers();
  client = build(() => {
    throw new EngineFailure("unreachable", "nobody there");
  });
  client.start();
  await vi.advanceTimersByTimeAsync(60_000);
  expect(client.state.kind).toBe("failed");
  expect(connects).toBe(7);
  vi.useRealTimers();
});

test("leaves the daemon when it stops", async () => {
  client = build(link);
  client.start();
  await reach("ready");
  await vi.waitFor(() => expect(engine.present).toBe(1));
  client.stop();
  await vi.waitFor(() => expect(engine.present).toBe(0));
  expect(client.state.kind).toBe("stopped");
  expect(engine.shutdowns).toBe(0);
});
