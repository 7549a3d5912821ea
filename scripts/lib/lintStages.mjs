// The static checks, each counted as one test.
import { spawnSync } from "node:child_process";
import { root } from "./paths.mjs";
import { localBin } from "./runCommand.mjs";
import { findTool, tools } from "./systemPackages.mjs";

/** @returns {{name: string, command: string, args: string[], missing?: string}[]} `missing`: why it cannot run */
export function lintStages() {
  return [
    { name: "typecheck", command: localBin("tsc"), args: ["-p", "tsconfig.json"] },
    {
      name: "biome",
      command: localBin("biome"),
      args: ["ci", "--colors=off", "--error-on-warnings", "."],
    },
    { name: "eslint", command: localBin("eslint"), args: ["."] },
    {
      name: "dependency rules",
      command: localBin("depcruise"),
      args: ["--config", ".dependency-cruiser.cjs", "src", "engine"],
    },
    { name: "dead code", command: localBin("knip"), args: [] },
    clangFormat(),
  ];
}

function clangFormat() {
  const files = nativeSources();
  const args = ["--dry-run", "-Werror", ...files];
  const stage = { name: "clang-format", command: "clang-format", args };
  if (findTool(tools.clangFormat) === undefined) return { ...stage, missing: "not installed" };
  return files.length > 0 ? stage : { ...stage, missing: "no native sources" };
}

/** Sources that git knows or would add; generated ones are ignored. */
function nativeSources() {
  const flags = ["ls-files", "--cached", "--others", "--exclude-standard"];
  const result = spawnSync("git", [...flags, "*.cpp", "*.h", "*.c", "*.cu", "*.cuh"], {
    cwd: root,
    encoding: "utf8",
  });
  if (result.status !== 0) throw new Error(`git ls-files failed: ${result.stderr.trim()}`);
  return result.stdout.split("\n").filter((file) => file !== "");
}
