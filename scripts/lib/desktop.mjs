// Installs the package into a desktop VS Code and opens the sample workspace in it.
import { spawnSync } from "node:child_process";

/** Throws one line when there is no `code` command or it refuses the package. */
export function openDesktop({ vsix, workspace }) {
  run(["--install-extension", vsix.path, "--force"]);
  run([workspace]);
}

function run(args) {
  const result = spawnSync("code", args, {
    encoding: "utf8",
    stdio: ["ignore", "inherit", "pipe"],
  });
  if (result.error?.code === "ENOENT") {
    throw new Error("no `code` command found; install the desktop VS Code, or leave --desktop out");
  }
  if (result.status !== 0) {
    throw new Error(
      `code ${args.join(" ")} ended with ${result.status}: ${result.stderr.trim().slice(0, 200)}`,
    );
  }
}
