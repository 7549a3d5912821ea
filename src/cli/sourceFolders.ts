// Folders of source files that a benchmark is given.
import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { productRoot } from "./productFiles.ts";

/** What a checkout brings: its own sources, and the sources that its tests complete in. */
const OWN_FOLDERS = ["src", "engine", "scripts", "test"];

/** The folders as absolute paths; the checkout's own when none are given. Throws when one is missing. */
export function sourceFolders(given: readonly string[]): string[] {
  const folders = given.length > 0 ? given.map((folder) => resolve(folder)) : ownFolders();
  const missing = folders.find((folder) => !existsSync(folder));
  if (missing !== undefined) throw new Error(`expected a folder at ${missing}, found none`);
  return folders;
}

function ownFolders(): string[] {
  const found = OWN_FOLDERS.map((name) => join(productRoot, name)).filter((f) => existsSync(f));
  if (found.length > 0) return found;
  throw new Error("expected --files with folders of source files, found none");
}

/** Says how far a benchmark is; on a terminal only, so that the output of a script stays clean. */
export function progress(what: string): (done: number, total: number) => void {
  return (done, total) => {
    if (process.stderr.isTTY) process.stderr.write(`\r${what} ${done + 1} of ${total} `);
  };
}
