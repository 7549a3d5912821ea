import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { openLog } from "./daemonLog.ts";

const MIB = 2 ** 20;
let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "tidepool-log-"));
});
afterEach(() => rmSync(dir, { recursive: true }));

const log = () => join(dir, "engine.log");

test("lines are JSON with a time, in a file that is closed to others", () => {
  openLog(dir).info({ why: "idle" }, "draining");
  const line = JSON.parse(readFileSync(log(), "utf8")) as Record<string, unknown>;
  expect(line).toMatchObject({ level: 30, why: "idle", msg: "draining" });
  expect(line["time"]).toMatch(/^\d{4}-\d\d-\d\dT/);
  expect(statSync(log()).mode & 0o777).toBe(0o600);
});

test("the log and its one older copy stay small, and the newest line is kept", () => {
  const logger = openLog(dir);
  const text = "ü".repeat(50_000);
  for (let i = 0; i < 80; i++) logger.info(`${i} ${text}`);
  logger.info("newest");
  expect(statSync(log()).size).toBeLessThan(2.2 * MIB);
  expect(statSync(`${log()}.1`).size).toBeLessThan(2.2 * MIB);
  expect(statSync(`${log()}.1`).size).toBeGreaterThan(1.9 * MIB);
  expect(readFileSync(log(), "utf8").trimEnd().split("\n").at(-1)).toContain("newest");
});

test("what an earlier daemon wrote counts", () => {
  writeFileSync(log(), "x".repeat(2 * MIB + 1));
  openLog(dir).info("first");
  expect(statSync(log()).size).toBeLessThan(1000);
  expect(statSync(`${log()}.1`).size).toBe(2 * MIB + 1);
});

test("a log that cannot be written stops nothing", () => {
  mkdirSync(log());
  expect(() => openLog(dir).info("into a folder")).not.toThrow();
  const gone = join(dir, "gone");
  expect(() => openLog(gone).info("into nothing")).not.toThrow();
  const closed = join(dir, "closed");
  mkdirSync(closed);
  chmodSync(closed, 0o500);
  expect(() => openLog(closed).info("into a closed folder")).not.toThrow();
});
