// Fetches a real VS Code (server and web workbench) from npm: the `code-server` package carries the built Code-OSS server.
// It is used without code-server's own wrapper and without any install script, so nothing is compiled or downloaded beside npm.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync } from "node:fs";
import path from "node:path";
import { sharedCacheDir } from "./paths.mjs";
import { lastLine, mustRun } from "./runCommand.mjs";

// 4.100.3 holds VS Code 1.100.3, the oldest version that package.json declares.
const CODE_SERVER_VERSION = "4.100.3";

/**
 * Path of a ready `server-main.js`; prepared on the first call (about half a minute) and shared by all checkouts of the user.
 * VSCODE_SERVER_MAIN names another one.
 */
export async function ensureVscodeServer() {
  const given = process.env.VSCODE_SERVER_MAIN;
  if (given !== undefined && given !== "") {
    if (!existsSync(given))
      throw new Error(`VSCODE_SERVER_MAIN names a file that does not exist: ${given}`);
    return given;
  }
  const home = path.join(sharedCacheDir(), `code-server-${CODE_SERVER_VERSION}`);
  const main = path.join(home, "lib", "vscode", "out", "server-main.js");
  if (existsSync(main)) return main;
  const work = mkdtempSync(path.join(sharedCacheDir(), "code-server-tmp-"));
  try {
    await unpack(work);
    // Two runs may prepare it at once: the first rename wins, and both results are the same.
    if (!existsSync(home)) renameSync(path.join(work, "package"), home);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  return main;
}

async function unpack(work) {
  const spec = `code-server@${CODE_SERVER_VERSION}`;
  await mustRun("vscode-server", "npm", ["pack", "--silent", spec, "--pack-destination", work], {
    cwd: work,
  });
  const archive = path.join(work, `code-server-${CODE_SERVER_VERSION}.tgz`);
  await mustRun("vscode-server", "tar", ["xzf", archive, "-C", work], { append: true });
  const vscode = path.join(work, "package", "lib", "vscode");
  const flags = ["--ignore-scripts", "--omit=dev", "--no-audit", "--no-fund", "--loglevel=error"];
  // The second folder holds the TypeScript compiler, without which the built-in TypeScript support reports an error.
  for (const cwd of [vscode, path.join(vscode, "extensions")]) {
    await mustRun("vscode-server", "npm", ["install", ...flags], { cwd, append: true });
  }
  // What the package's own install script would do: the server looks its modules up under this name too.
  symlinkSync("node_modules", path.join(vscode, "node_modules.asar"));
  linkRipgrep(vscode);
  const check = spawnSync(
    process.execPath,
    [path.join(vscode, "out", "server-main.js"), "--version"],
    { encoding: "utf8" },
  );
  if (check.status !== 0)
    throw new Error(`the VS Code server does not start: ${lastLine(check.stderr)}`);
}

/** Search in the workbench needs ripgrep, whose own package downloads it; the system's is linked in its place. */
function linkRipgrep(vscode) {
  const found = spawnSync("sh", ["-c", "command -v rg"], { encoding: "utf8" }).stdout.trim();
  if (found === "") return;
  const bin = path.join(vscode, "node_modules", "@vscode", "ripgrep", "bin");
  mkdirSync(bin, { recursive: true });
  symlinkSync(found, path.join(bin, "rg"));
}
