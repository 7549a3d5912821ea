import { chmodSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type LockFile, PROTOCOL_VERSION } from "../protocol/api.ts";
import { lockPath, socketPath } from "../protocol/runtime.ts";
import { daemonCheck, runtimeFolderCheck } from "./runtimeChecks.ts";

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "tp-doctor-"));
});
afterEach(() => rmSync(dir, { recursive: true }));

function writeLock(): void {
  const lock: LockFile = {
    pid: process.pid,
    socket: socketPath(dir),
    version: "1.0.0",
    protocol: PROTOCOL_VERSION,
    model: "m.gguf",
  };
  writeFileSync(lockPath(dir), JSON.stringify(lock));
}

/** Runs `check` while something answers every request on the daemon's socket with `answer`. */
async function whileAnswering<T>(answer: object, check: () => Promise<T>): Promise<T> {
  const server = createServer((_, response) => response.end(JSON.stringify(answer)));
  await new Promise<void>((resolve) => server.listen(socketPath(dir), resolve));
  try {
    return await check();
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

describe("runtimeFolderCheck", () => {
  it("accepts a private folder, and one that can be made, without making it", () => {
    expect(runtimeFolderCheck(dir).state).toBe("ok");
    const missing = join(dir, "a", "b");
    expect(runtimeFolderCheck(missing)).toMatchObject({ state: "ok" });
    expect(readdirSync(dir)).toEqual([]);
  });

  it("fails for a folder that others may enter, and for a socket path that is too long", () => {
    const open = join(dir, "open");
    mkdirSync(open);
    chmodSync(open, 0o755);
    expect(runtimeFolderCheck(open)).toMatchObject({
      state: "fail",
      found: expect.stringContaining("found 755") as string,
    });
    expect(runtimeFolderCheck(join(dir, "x".repeat(100))).found).toContain("at most 100 bytes");
  });
});

describe("daemonCheck", () => {
  it("is content when no daemon runs", async () => {
    expect(await daemonCheck(dir, "1.0.0")).toMatchObject({ state: "ok" });
  });

  it("warns of a lock behind which nothing answers", async () => {
    writeLock();
    const check = await daemonCheck(dir, "1.0.0");
    expect(check.state).toBe("warn");
    expect(check.found).toContain(`pid ${process.pid}`);
  });

  it.each([
    ["ok", { status: "ready", version: "1.0.0" }, "ready"],
    ["warn", { status: "ready", version: "0.9.0" }, "expected version 1.0.0"],
    ["fail", { status: "failed", version: "1.0.0", reason: "no memory" }, "no memory"],
    ["warn", { hello: "world" }, "no daemon answers"],
  ])("says %s of a daemon that answers %o", async (state, health, found) => {
    writeLock();
    const answer = { pid: 7, protocol: PROTOCOL_VERSION, ...health };
    const check = await whileAnswering(answer, () => daemonCheck(dir, "1.0.0"));
    expect(check.state).toBe(state);
    expect(check.found).toContain(found);
  });
});
