/** The runtime folder, its lock, and the daemon that may run behind it. Changes nothing. */
import { accessSync, constants, existsSync, statfsSync } from "node:fs";
import { dirname } from "node:path";
import { askHealth, askState, type DaemonState } from "../base/daemonClient.ts";
import { messageOf } from "../base/errors.ts";
import { PROTOCOL_VERSION } from "../protocol/api.ts";
import { prepareRuntimeDir, readLock, socketPath } from "../protocol/runtime.ts";
import { type Check, fail, ok, warn } from "./check.ts";

const ANSWER_MS = 2000;
const ENOUGH_DISK = 16 * 1024 * 1024;
const MIB = 1024 * 1024;

/** Whether the folder, or the place where it will be made, can be used, and the socket's path is short enough. */
export function runtimeFolderCheck(dir: string): Check {
  const name = "runtime folder";
  const advice = "set TIDEPOOL_RUNTIME_DIR to a folder of your own with mode 700";
  try {
    const socket = socketPath(dir);
    if (!existsSync(dir)) {
      accessSync(nearestFolder(dir), constants.W_OK | constants.X_OK);
      return ok(name, `${dir}, made when the engine starts, socket ${socket}`);
    }
    prepareRuntimeDir(dir);
    accessSync(dir, constants.W_OK | constants.X_OK);
    const { bavail, bsize } = statfsSync(dir);
    const found = `${dir}, mode 700, socket ${socket}`;
    return bavail * bsize >= ENOUGH_DISK
      ? ok(name, found)
      : warn(name, `${found}, disk full`, "free some space: the engine's log is not written");
  } catch (error) {
    return fail(name, messageOf(error), advice);
  }
}

/** Whether a daemon runs, and in which state; a stale lock is no fault, since the next daemon takes it over. */
export async function daemonCheck(dir: string, version: string): Promise<Check> {
  const name = "daemon";
  const lock = readLock(dir);
  if (lock === undefined) return ok(name, "none runs; the next client starts one");
  const health = await askHealth(lock.socket, ANSWER_MS);
  if (health === undefined) {
    return warn(
      name,
      `the lock names pid ${lock.pid}, and no daemon answers on ${lock.socket}`,
      `end process ${lock.pid} if it is an engine that hangs; the next client starts a new one`,
    );
  }
  const found = `pid ${health.pid}, version ${health.version}, ${health.status}`;
  if (health.status === "failed")
    return fail(name, `${found}: ${health.reason ?? "no reason"}`, "restart the engine");
  if (health.version !== version || health.protocol !== PROTOCOL_VERSION) {
    const expected = `expected version ${version} and protocol ${PROTOCOL_VERSION}`;
    return warn(name, `${found}, ${expected}`, "nothing: the next client replaces it");
  }
  return ok(name, `${found}${loadOf(await askState(lock.socket, ANSWER_MS))}`);
}

function loadOf(state: DaemonState | undefined): string {
  if (state === undefined) return "";
  const { memory, sequences } = state;
  return `, ${(memory.rssBytes / MIB).toFixed(0)} MiB, ${sequences.running} running, ${sequences.waiting} waiting`;
}

function nearestFolder(dir: string): string {
  const parent = dirname(dir);
  return existsSync(parent) || parent === dir ? parent : nearestFolder(parent);
}
