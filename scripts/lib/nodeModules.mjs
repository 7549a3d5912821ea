// Installs the npm dependencies when they are missing or the lock file changed. Uses Node's own modules only.
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { cacheDir, inRoot } from "./paths.mjs";
import { mustRun } from "./runCommand.mjs";

const OLDEST_NODE = [20, 19];

/** Throws when this Node is too old for the toolchain. */
export function checkNodeVersion(version = process.versions.node) {
  const [major = 0, minor = 0] = version.split(".").map(Number);
  const [needMajor, needMinor] = OLDEST_NODE;
  if (major > needMajor || (major === needMajor && minor >= needMinor)) return;
  throw new Error(`Node ${OLDEST_NODE.join(".")} or newer is needed, this is ${version}`);
}

/**
 * Runs `npm ci` when node_modules is missing or was not installed from the present package-lock.json.
 * @returns {Promise<boolean>} whether something was installed
 */
export async function ensureNodeModules() {
  const stampFile = path.join(cacheDir, "npm-ci.stamp");
  const wanted = createHash("sha256")
    .update(readFileSync(inRoot("package-lock.json")))
    .digest("hex");
  const installed = existsSync(inRoot("node_modules", ".package-lock.json"));
  const stamp = existsSync(stampFile) ? readFileSync(stampFile, "utf8") : "";
  if (installed && stamp === wanted) return false;
  await mustRun("npm-ci", "npm", ["ci", "--no-audit", "--no-fund", "--loglevel=error"]);
  mkdirSync(cacheDir, { recursive: true });
  writeFileSync(stampFile, wanted);
  return true;
}
