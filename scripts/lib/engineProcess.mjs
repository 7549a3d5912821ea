// The engine daemon that a script caused to start, found through the lock file of the script's own runtime folder.
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";

const POLL_MS = 20;

/** A new private folder; short, because a socket's path may have about 100 bytes. */
export function makeRuntimeDir() {
  return mkdtempSync(path.join(tmpdir(), "tidepool-"));
}

/** The lock file's content, or undefined when no engine runs there. */
export function readEngineLock(runtimeDir) {
  try {
    return JSON.parse(readFileSync(path.join(runtimeDir, "engine.lock"), "utf8"));
  } catch {
    // Missing or just being replaced: both mean that there is nothing to talk to now.
    return undefined;
  }
}

export function isAlive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    // ESRCH: it is gone. EPERM cannot occur, it is a process of ours.
    return false;
  }
}

/** Asks the engine of `runtimeDir` to stop, forces it after `graceMs`, and removes the folder. */
export async function stopEngine(runtimeDir, graceMs = 3000) {
  const pid = readEngineLock(runtimeDir)?.pid;
  if (pid !== undefined && isAlive(pid)) {
    process.kill(pid, "SIGTERM");
    const endMs = Date.now() + graceMs;
    while (isAlive(pid) && Date.now() < endMs) await new Promise((go) => setTimeout(go, POLL_MS));
    if (isAlive(pid)) process.kill(pid, "SIGKILL");
  }
  rmSync(runtimeDir, { recursive: true, force: true, maxRetries: 5 });
}
