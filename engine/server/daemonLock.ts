/** The lock file: who may be the daemon of this runtime folder. */
import { renameSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import type { LockFile } from "../protocol/api.ts";
import { lockPath, readLock } from "../protocol/runtime.ts";

const ANSWER_MS = 2000;

/** The lock of a daemon that lives and accepts connections; undefined when there is none or it is stale. */
export async function liveLock(runtimeDir: string): Promise<LockFile | undefined> {
  const lock = readLock(runtimeDir);
  if (lock === undefined || lock.pid === process.pid || !isAlive(lock.pid)) return undefined;
  return (await accepts(lock.socket)) ? lock : undefined;
}

/** Writes the lock in one piece: readers see the old one or the new one, never half. */
export function writeLock(runtimeDir: string, lock: LockFile): void {
  const path = lockPath(runtimeDir);
  const fresh = `${path}.${process.pid}`;
  writeFileSync(fresh, JSON.stringify(lock), { mode: 0o600 });
  renameSync(fresh, path);
}

/** Removes lock and socket, when they are still this process's own. */
export function removeLock(runtimeDir: string): void {
  const lock = readLock(runtimeDir);
  if (lock?.pid !== process.pid) return;
  rmSync(lockPath(runtimeDir), { force: true });
  if (process.platform !== "win32") rmSync(lock.socket, { force: true });
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // EPERM: it lives, and belongs to somebody else.
    return error instanceof Error && "code" in error && error.code === "EPERM";
  }
}

export function accepts(socket: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = connect(socket);
    const end = (answer: boolean) => {
      probe.destroy();
      resolve(answer);
    };
    probe.setTimeout(ANSWER_MS, () => end(false));
    probe.once("connect", () => end(true));
    probe.once("error", () => end(false));
  });
}
