/** A daemon's life: one per runtime folder, taken over when dead, gone when told or not needed. */
import { existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { Health } from "../../engine/protocol/api.ts";
import { lockPath, readLock } from "../../engine/protocol/runtime.ts";
import { answerOf, Daemon, eventsOf, eventually, runtimeFolder } from "../support/daemon.ts";

let folder: ReturnType<typeof runtimeFolder>;
beforeEach(() => {
  folder = runtimeFolder();
});
afterEach(() => folder.clean());

const start = (...args: string[]) => folder.track(new Daemon(folder.dir, args));
const body = { input_prefix: "let a = ", input_suffix: ";\n", n_predict: 8 };
const longRun = { ...body, n_predict: 4000, stream: true };

test("a lock tells who serves, and folder, lock and token are closed to others", async () => {
  const engine = start("--listen", "127.0.0.1:0");
  const health = await engine.ready();
  const { pid, version, protocol } = health;
  const model = health.model?.path;
  expect(readLock(folder.dir)).toEqual({ pid, socket: engine.socket, version, protocol, model });
  const modeOf = (path: string) => (statSync(path).mode & 0o777).toString(8);
  expect(modeOf(folder.dir)).toBe("700");
  expect(modeOf(lockPath(folder.dir))).toBe("600");
  expect(modeOf(join(folder.dir, "token"))).toBe("600");
});

test("a second daemon says that one runs and ends with code 0", async () => {
  const engine = start();
  await engine.ready();
  const second = start();
  expect(await second.ended()).toBe(0);
  expect(second.output).toBe(
    `an engine already runs: pid ${engine.child.pid}, socket ${engine.socket}\n`,
  );
  expect((await engine.post("/infill", body)).status).toBe(200);
});

test("after kill -9 the next daemon takes lock and socket over", async () => {
  const engine = start();
  await engine.ready();
  await engine.kill();
  expect(existsSync(engine.socket)).toBe(true);
  const next = start();
  await next.ready();
  expect(readLock(folder.dir)?.pid).toBe(next.child.pid);
  expect((await next.post("/infill", body)).status).toBe(200);
});

test("a lock that names a living process which serves nothing is stale", async () => {
  mkdirSync(folder.dir, { mode: 0o700 });
  const socket = join(folder.dir, "engine.sock");
  const lock = { pid: process.pid, socket, version: "0.0.1", protocol: 1, model: "m" };
  writeFileSync(lockPath(folder.dir), JSON.stringify(lock));
  const engine = start();
  await engine.ready();
  expect(readLock(folder.dir)?.pid).toBe(engine.child.pid);
});

test("of several daemons that start at once over a dead socket one is left", async () => {
  const dead = start();
  await dead.ready();
  await dead.kill();
  const all = Array.from({ length: 5 }, () => start());
  const codes = new Map<Daemon, number | null>();
  for (const daemon of all) void daemon.ended().then((code) => codes.set(daemon, code));
  await eventually(() => (codes.size === 4 ? true : undefined), "four of five to end");
  expect([...codes.values()]).toEqual([0, 0, 0, 0]);
  const left = all.find((daemon) => !codes.has(daemon));
  await left?.ready();
  await eventually(
    () => readLock(folder.dir)?.pid === left?.child.pid || undefined,
    "the lock to name the daemon that is left",
  );
  expect((await left?.post("/infill", body))?.status).toBe(200);
});

test("a daemon whose socket was taken over leaves it to the other and ends", async () => {
  const engine = start();
  await engine.ready();
  rmSync(engine.socket);
  const other = createServer();
  await new Promise<void>((resolve) => other.listen(engine.socket, resolve));
  try {
    expect(await engine.ended()).toBe(0);
    expect(existsSync(engine.socket)).toBe(true);
  } finally {
    other.close();
  }
});

test("a lost lock is written again", async () => {
  const engine = start();
  await engine.ready();
  rmSync(lockPath(folder.dir));
  await eventually(() => readLock(folder.dir), "the lock to be back");
  expect(readLock(folder.dir)?.pid).toBe(engine.child.pid);
});

test("SIGTERM lets a running request end, refuses new ones, and removes lock and socket", async () => {
  const engine = start();
  await engine.ready();
  const running = answerOf(engine.open("POST", "/infill", JSON.stringify(longRun)));
  const watching = answerOf(engine.open("GET", "/tidepool/events"));
  await eventually(
    async () => ((await engine.state()).sequences.running === 1 ? true : undefined),
    "the request to run",
  );
  engine.child.kill("SIGTERM");
  await eventually(async () => {
    const { text } = await engine.get("/health");
    return (JSON.parse(text) as Health).status === "draining" ? true : undefined;
  }, "the engine to drain");
  const refused = await engine.post("/infill", body);
  expect(refused.status).toBe(503);
  expect(refused.text).toContain("found it draining");
  expect(eventsOf((await running).text).at(-1)).toMatchObject({ stop: true, stop_type: "limit" });
  expect((await watching).text).toContain('"status":"draining"');
  expect(await engine.ended()).toBe(0);
  expect(existsSync(engine.socket)).toBe(false);
  expect(readLock(folder.dir)).toBeUndefined();
});

test("/tidepool/shutdown ends the daemon as a signal does", async () => {
  const engine = start();
  await engine.ready();
  expect((await engine.post("/tidepool/shutdown", {})).text).toBe('{"status":"draining"}');
  expect(await engine.ended()).toBe(0);
});

test("it ends when nobody was there for the idle time, and not before", async () => {
  const engine = start("--idle-exit", "1");
  await engine.ready();
  const client = engine.open("GET", "/tidepool/events");
  client.on("error", () => undefined);
  await new Promise((resolve) => client.once("response", resolve));
  await new Promise((resolve) => setTimeout(resolve, 1500));
  expect(engine.child.exitCode).toBeNull();
  const leftAt = Date.now();
  client.destroy();
  expect(await engine.ended()).toBe(0);
  expect(Date.now() - leftAt).toBeGreaterThanOrEqual(990);
});

test("requests over TCP need the token, and keep the daemon alive", async () => {
  const engine = start("--listen", "127.0.0.1:0", "--idle-exit", "1");
  await engine.ready();
  const url = `http://${/listening on (\S+),/.exec(engine.output)?.[1]}`;
  const token = readFileSync(join(folder.dir, "token"), "utf8").trim();
  const headers = { authorization: `Bearer ${token}` };
  const post = (init: RequestInit) =>
    fetch(`${url}/infill`, { method: "POST", body: JSON.stringify(body), ...init });
  expect((await post({})).status).toBe(401);
  expect((await fetch(`${url}/health`)).status).toBe(401);
  expect((await post({ headers: { authorization: "Bearer x" } })).status).toBe(401);
  for (let i = 0; i < 6; i++) {
    expect((await post({ headers })).status).toBe(200);
    await new Promise((resolve) => setTimeout(resolve, 300));
  }
  expect((await engine.state()).requests.finished).toBe(6);
  expect(await engine.ended()).toBe(0);
});

test("a damaged model is told in health, in one line", async () => {
  const model = join(folder.dir, "..", "damaged.gguf");
  writeFileSync(model, "GGUF and then nothing of use");
  const engine = start("--model", model);
  await eventually(async () => {
    const answer = await engine.get("/health").catch(() => undefined);
    const health = answer && (JSON.parse(answer.text) as Health);
    if (health?.status !== "failed") return undefined;
    expect(answer?.status).toBe(503);
    expect(health.reason).toMatch(/^[^\n]*damaged\.gguf: expected [^\n]+$/);
    return true;
  }, "the engine to say that it failed");
  expect((await engine.post("/infill", body)).status).toBe(503);
});

test.each([
  [["--device", "gpu"], /Allowed choices are auto, cpu, cuda/],
  [["--threads", "x"], /expected a whole number, found x/],
  [["--listen", "nowhere"], /expected --listen HOST:PORT, found nowhere/],
])("%j is refused in one line", async (args, message) => {
  const engine = start(...args);
  expect(await engine.ended()).not.toBe(0);
  expect(engine.errors).toMatch(message);
  expect(engine.errors.trimEnd()).not.toContain("\n");
  expect(readLock(folder.dir)).toBeUndefined();
  expect(existsSync(engine.socket)).toBe(false);
});
