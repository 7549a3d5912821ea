/** The lock file: how clients find the daemon of this runtime folder. Who owns the folder is decided by the socket. */
import { renameSync, rmSync, writeFileSync } from "node:fs";
import type { LockFile } from "../protocol/api.ts";
import { lockPath, readLock } from "../protocol/runtime.ts";
import { accepts } from "./socketClaim.ts";

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

/** Removes the lock, when it is still this process's own. */
export function removeLock(runtimeDir: string): void {
  if (readLock(runtimeDir)?.pid === process.pid) rmSync(lockPath(runtimeDir), { force: true });
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
