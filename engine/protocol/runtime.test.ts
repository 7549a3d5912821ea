import { chmodSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { lockPath, prepareRuntimeDir, readLock, resolveRuntimeDir, socketPath } from "./runtime.ts";

const folder = mkdtempSync(join(tmpdir(), "tidepool-runtime-"));
afterAll(() => rmSync(folder, { recursive: true }));

test("the environment decides where the runtime folder is", () => {
  expect(resolveRuntimeDir({ TIDEPOOL_RUNTIME_DIR: "/a/b", XDG_RUNTIME_DIR: "/run/user/1" })).toBe(
    "/a/b",
  );
  expect(resolveRuntimeDir({ XDG_RUNTIME_DIR: "/run/user/1" })).toBe("/run/user/1/tidepool");
  expect(resolveRuntimeDir({})).toMatch(/tidepool-\w+$/);
});

test("a new runtime folder is closed to others", () => {
  const dir = join(folder, "deep", "new");
  prepareRuntimeDir(dir);
  expect(statSync(dir).mode & 0o777).toBe(0o700);
  prepareRuntimeDir(dir);
});

test("a folder that others can read, a file, and a link are refused in one line", () => {
  const open = join(folder, "open");
  prepareRuntimeDir(open);
  chmodSync(open, 0o755);
  expect(() => prepareRuntimeDir(open)).toThrow(/with mode 700, found 755: run chmod 700/);
  const file = join(folder, "file");
  writeFileSync(file, "");
  expect(() => prepareRuntimeDir(file)).toThrow(/file/);
  const link = join(folder, "link");
  symlinkSync(folder, link);
  expect(() => prepareRuntimeDir(link)).toThrow(/to be a folder, found something else/);
});

test("a socket path that the system would cut off is refused", () => {
  expect(() => socketPath(`/${"x".repeat(100)}`, "linux")).toThrow(
    /at most 100 bytes, found 113 .* TIDEPOOL_RUNTIME_DIR/,
  );
  expect(socketPath("/run/tidepool", "linux")).toBe("/run/tidepool/engine.sock");
  expect(socketPath("C:\\Users\\a", "win32")).toMatch(/^\\\\\.\\pipe\\tidepool-[0-9a-f]{16}$/);
});

test("a lock is read only when it is whole", () => {
  expect(readLock(folder)).toBeUndefined();
  writeFileSync(lockPath(folder), '{"pid": 1');
  expect(readLock(folder)).toBeUndefined();
  writeFileSync(lockPath(folder), '{"pid": "1"}');
  expect(readLock(folder)).toBeUndefined();
  const lock = { pid: 1, socket: "s", version: "0.1.0", protocol: 1, model: "m" };
  writeFileSync(lockPath(folder), JSON.stringify(lock));
  expect(readLock(folder)).toEqual(lock);
});
