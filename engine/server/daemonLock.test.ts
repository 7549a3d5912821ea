import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync, statSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { lockPath, readLock } from "../protocol/runtime.ts";
import { liveLock, removeLock, writeLock } from "./daemonLock.ts";

let dir: string;
let server: Server;
beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), "tidepool-lock-"));
  server = createServer();
  await new Promise<void>((resolve) => server.listen(join(dir, "engine.sock"), resolve));
});
afterEach(() => {
  server.close();
  rmSync(dir, { recursive: true });
});

const lock = (pid: number, socket = join(dir, "engine.sock")) => ({
  pid,
  socket,
  version: "0.1.0",
  protocol: 1,
  model: "/m.gguf",
});

/** A process that has ended. */
const deadPid = () => spawnSync(process.execPath, ["-e", ""]).pid;

test("a lock is written whole, for its owner only, and leaves no other file", () => {
  writeLock(dir, lock(1));
  writeLock(dir, lock(2));
  expect(readLock(dir)).toEqual(lock(2));
  expect(statSync(lockPath(dir)).mode & 0o777).toBe(0o600);
  expect(readdirSync(dir).sort()).toEqual(["engine.lock", "engine.sock"]);
});

test("a lock counts while its process lives and its socket answers", async () => {
  writeLock(dir, lock(process.ppid));
  expect(await liveLock(dir)).toEqual(lock(process.ppid));
});

test.each([
  ["there is none", () => undefined],
  ["its process has ended", () => writeLock(dir, lock(deadPid()))],
  ["it is our own, from a process that had our number", () => writeLock(dir, lock(process.pid))],
  ["its socket is gone", () => writeLock(dir, lock(process.ppid, join(dir, "gone.sock")))],
])("a lock is stale when %s", async (_, prepare) => {
  prepare();
  expect(await liveLock(dir)).toBeUndefined();
});

test("only one's own lock is removed", () => {
  writeLock(dir, lock(process.ppid));
  removeLock(dir);
  expect(readLock(dir)?.pid).toBe(process.ppid);
  writeLock(dir, lock(process.pid));
  removeLock(dir);
  expect(readLock(dir)).toBeUndefined();
});
