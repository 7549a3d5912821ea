import { afterEach, beforeEach, expect, test } from "vitest";
import { deferred } from "../base/async.ts";
import { EngineConnection } from "./connection.ts";
import { EngineFailure } from "./engineFailure.ts";
import { FakeEngine, failure } from "./fakeEngine.ts";

let engine: FakeEngine;
let connection: EngineConnection;
const request = { input_prefix: "a", input_suffix: "b" };

beforeEach(async () => {
  engine = await FakeEngine.start();
  connection = new EngineConnection(engine.socket);
});

afterEach(async () => {
  connection.dispose();
  await engine.stop();
});

test("reads the health of a daemon that is not ready", async () => {
  engine.health = { ...engine.health, status: "loading" };
  await expect(connection.health()).resolves.toMatchObject({ status: "loading" });
});

test("streams pieces and joins them", async () => {
  engine.script = () => ({ pieces: ["fö", "o", "\n🙂"], stopType: "word" });
  const pieces: string[] = [];
  const outcome = await connection.infill(request, { onText: (piece) => pieces.push(piece) });
  // The engine's last event has the whole text again, which must not be said twice.
  expect(pieces).toEqual(["fö", "o", "\n🙂"]);
  expect(outcome).toMatchObject({ kind: "done", text: "föo\n🙂", response: { stop_type: "word" } });
  expect(engine.requests[0]).toEqual({ ...request, stream: true });
});

test("an abort closes the request and is an outcome", async () => {
  const never = deferred<void>();
  engine.script = () => ({ pieces: ["x"], hold: never.promise });
  const stop = new AbortController();
  const outcome = connection.infill(request, { signal: stop.signal, onText: () => stop.abort() });
  await expect(outcome).resolves.toEqual({ kind: "cancelled" });
  await expect.poll(() => engine.cancelled).toBe(1);
  never.resolve();
});

test("a refusal keeps the code and the message of the engine", async () => {
  engine.script = () => failure("prompt_too_long", "expected at most 10 tokens, found 11");
  const outcome = await connection.infill(request);
  expect(outcome).toMatchObject({
    kind: "failed",
    failure: { code: "prompt_too_long", message: "expected at most 10 tokens, found 11" },
  });
});

test("a stream that breaks off fails the request", async () => {
  engine.script = () => ({ pieces: ["x"], breakOff: true });
  const outcome = await connection.infill(request);
  expect(outcome).toMatchObject({ kind: "failed", failure: { code: "unreachable" } });
});

test("the end of the daemon ends the presence stream", async () => {
  const ended = deferred<void>();
  connection.presence({
    onHealth: () => undefined,
    onActivity: () => undefined,
    onEnd: ended.resolve,
  });
  await expect.poll(() => engine.present).toBe(1);
  await engine.stop();
  await ended.promise;
});

test("a daemon that is not there is unreachable", async () => {
  const nobody = new EngineConnection("/nonexistent/engine.sock");
  await expect(nobody.health()).rejects.toSatisfy((error) =>
    EngineFailure.is(error, "unreachable"),
  );
});

test("an abort after the last event was sent breaks nothing", async () => {
  engine.script = () => ({ pieces: ["x", "y", "z"] });
  for (let i = 0; i < 50; i++) {
    const stop = new AbortController();
    const outcome = await connection.infill(request, {
      signal: stop.signal,
      onText: () => stop.abort(),
    });
    expect(["done", "cancelled"]).toContain(outcome.kind);
  }
  const outcome = await connection.infill(request);
  expect(outcome).toMatchObject({ kind: "done", text: "xyz" });
});
