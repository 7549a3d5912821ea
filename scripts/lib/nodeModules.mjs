// Installs the npm dependencies when they are missing or the lock file changed. Uses Node's own modules only.
import { existsSync, readFileSync } from "node:fs";
import { inRoot } from "./paths.mjs";
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
 * Installs what package-lock.json asks for when node_modules is missing or does not hold it. Not by `npm ci`: that insists
 * on entries for the optional binaries of every platform, and a registry that serves only some of them leaves gaps.
 * @returns {Promise<boolean>} whether something was installed
 */
export async function ensureNodeModules() {
  const installedFile = inRoot("node_modules", ".package-lock.json");
  const wanted = JSON.parse(readFileSync(inRoot("package-lock.json"), "utf8"));
  const installed = existsSync(installedFile)
    ? JSON.parse(readFileSync(installedFile, "utf8"))
    : {};
  if (isInstalled(wanted, installed)) return false;
  const quiet = ["--no-audit", "--no-fund", "--loglevel=error"];
  await mustRun("npm-install", "npm", ["install", "--no-save", ...quiet]);
  return true;
}

/**
 * Whether npm's own record of node_modules agrees with the lock file. Entries marked optional may be absent:
 * they are binaries for other platforms.
 */
export function isInstalled(wanted, installed) {
  const found = installed.packages ?? {};
  return Object.entries(wanted.packages)
    .filter(([folder, entry]) => folder !== "" && (entry.optional !== true || folder in found))
    .every(([folder, entry]) => found[folder]?.version === entry.version);
}
