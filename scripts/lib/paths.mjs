// Where the scripts keep things. Everything under `.cache` may be deleted at any time.
import { accessSync, constants, mkdirSync } from "node:fs";
import { homedir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

/** Absolute path of the checkout. */
export const root = fileURLToPath(new URL("../..", import.meta.url)).replace(/[/\\]$/, "");

/** Absolute path of a file of the checkout. */
export const inRoot = (...parts) => path.join(root, ...parts);

/** Folder for stamps and logs of this checkout. */
export const cacheDir = inRoot(".cache");

/** Full output of every stage of the last run. */
export const logsDir = path.join(cacheDir, "logs");

/**
 * Folder for large downloads that all checkouts of a user share: TIDEPOOL_CACHE_DIR, else the user's
 * cache folder, else this checkout's own when the home folder cannot be written.
 */
export function sharedCacheDir() {
  const base = process.env.XDG_CACHE_HOME || path.join(homedir(), ".cache");
  const wanted = process.env.TIDEPOOL_CACHE_DIR || path.join(base, "tidepool");
  try {
    mkdirSync(wanted, { recursive: true });
    accessSync(wanted, constants.W_OK);
    return wanted;
  } catch {
    // A read-only home is common in containers; a checkout that can be built can also be written.
    mkdirSync(cacheDir, { recursive: true });
    return cacheDir;
  }
}
