/** Where the daemon of a user lives: runtime folder, socket and lock file. Daemon and clients resolve them through this file. */
import { createHash } from "node:crypto";
import { lstatSync, mkdirSync, readFileSync } from "node:fs";
import { tmpdir, userInfo } from "node:os";
import { join, resolve } from "node:path";
import type { LockFile } from "./api.ts";

/** sun_path holds 104 bytes on macOS and 108 on Linux, with the closing zero. */
const MAX_SOCKET_PATH_BYTES = 100;

/** The runtime folder cannot be used; the message is one line for the user. */
export class RuntimeDirError extends Error {
  override readonly name = "RuntimeDirError";
}

/** Path of the runtime folder: TIDEPOOL_RUNTIME_DIR, else $XDG_RUNTIME_DIR/tidepool, else a folder of the user in the temporary folder. */
export function resolveRuntimeDir(env: NodeJS.ProcessEnv = process.env): string {
  const own = env["TIDEPOOL_RUNTIME_DIR"];
  if (own) return resolve(own);
  const xdg = env["XDG_RUNTIME_DIR"];
  if (xdg) return join(xdg, "tidepool");
  return join(tmpdir(), `tidepool-${userName()}`);
}

function userName(): string {
  const { uid, username } = userInfo();
  return uid >= 0 ? String(uid) : username;
}

/**
 * Makes `dir` with mode 0700 when it is missing, and checks that nobody else can reach into it.
 * Throws RuntimeDirError when it is no folder, belongs to another user, or is open to others.
 */
export function prepareRuntimeDir(dir: string): void {
  try {
    mkdirSync(dir, { recursive: true, mode: 0o700 });
  } catch (cause) {
    throw new RuntimeDirError(`cannot make the runtime folder ${dir}: ${String(cause)}`, { cause });
  }
  const stat = lstatSync(dir);
  if (!stat.isDirectory())
    throw new RuntimeDirError(
      `expected the runtime folder ${dir} to be a folder, found something else`,
    );
  if (process.platform === "win32") return;
  const uid = process.getuid?.();
  if (stat.uid !== uid) {
    throw new RuntimeDirError(
      `expected the runtime folder ${dir} to belong to user ${uid}, found user ${stat.uid}`,
    );
  }
  const mode = stat.mode & 0o777;
  if ((mode & 0o077) !== 0) {
    throw new RuntimeDirError(
      `expected the runtime folder ${dir} with mode 700, found ${mode.toString(8)}: run chmod 700 on it`,
    );
  }
}

/** The daemon's socket (on Windows: named pipe). Throws RuntimeDirError when its path is too long for a socket. */
export function socketPath(
  runtimeDir: string,
  platform: NodeJS.Platform = process.platform,
): string {
  if (platform === "win32") {
    const name = createHash("sha256").update(runtimeDir.toLowerCase()).digest("hex").slice(0, 16);
    return `\\\\.\\pipe\\tidepool-${name}`;
  }
  const path = join(runtimeDir, "engine.sock");
  const nBytes = Buffer.byteLength(path);
  if (nBytes > MAX_SOCKET_PATH_BYTES) {
    throw new RuntimeDirError(
      `expected a socket path of at most ${MAX_SOCKET_PATH_BYTES} bytes, found ${nBytes} in ${path}: set TIDEPOOL_RUNTIME_DIR to a shorter folder`,
    );
  }
  return path;
}

export function lockPath(runtimeDir: string): string {
  return join(runtimeDir, "engine.lock");
}

/** What the lock file says; undefined when there is none, or it holds no lock. Says nothing about whether that daemon lives. */
export function readLock(runtimeDir: string): LockFile | undefined {
  try {
    const value: unknown = JSON.parse(readFileSync(lockPath(runtimeDir), "utf8"));
    return isLock(value) ? value : undefined;
  } catch {
    // Missing, unreadable or half a file: all mean that no daemon can be found through it.
    return undefined;
  }
}

function isLock(value: unknown): value is LockFile {
  if (typeof value !== "object" || value === null) return false;
  const lock = value as Record<keyof LockFile, unknown>;
  return (
    Number.isInteger(lock.pid) &&
    Number.isInteger(lock.protocol) &&
    typeof lock.socket === "string" &&
    typeof lock.version === "string" &&
    typeof lock.model === "string"
  );
}
