// Installs missing tools through the system's package manager where that is possible without asking anybody.
import { spawnSync } from "node:child_process";
import { runLogged } from "./runCommand.mjs";

/** What each part of the product needs: a command (any of several names) and the Debian package that brings it. */
export const tools = {
  compiler: { commands: ["g++"], debian: "g++" },
  cmake: { commands: ["cmake"], debian: "cmake" },
  make: { commands: ["make", "ninja"], debian: "make" },
  browser: { commands: ["chromium", "chromium-browser", "google-chrome"], debian: "chromium" },
  ripgrep: { commands: ["rg"], debian: "ripgrep" },
  clangFormat: { commands: ["clang-format"], debian: "clang-format" },
  unzip: { commands: ["unzip"], debian: "unzip" },
};

/** Absolute path of a tool, or undefined when it is not installed. */
export function findTool(tool) {
  for (const command of tool.commands) {
    const found = spawnSync("sh", ["-c", `command -v ${command}`], { encoding: "utf8" });
    if (found.status === 0) return found.stdout.trim();
  }
  return undefined;
}

/** Path of Chromium: the environment variable CHROMIUM, else an installed one. */
export function findBrowser() {
  return process.env.CHROMIUM || findTool(tools.browser);
}

/**
 * Installs those of `wanted` (names in `tools`) that are missing.
 * @returns {Promise<{installed: string[], missing: string[]}>} Debian package names
 */
export async function ensureTools(wanted) {
  const absent = () => wanted.filter((name) => !isPresent(name)).map((name) => tools[name].debian);
  const before = absent();
  if (before.length === 0) return { installed: [], missing: [] };
  const prefix = rootPrefix();
  if (prefix !== undefined && findTool({ commands: ["apt-get"] }) !== undefined) {
    await aptInstall(prefix, before);
  }
  const missing = absent();
  return { installed: before.filter((name) => !missing.includes(name)), missing };
}

/** One line that tells a person how to get what could not be installed. */
export function installHint(packages) {
  return `missing: ${packages.join(", ")}; install with: sudo apt-get install ${packages.join(" ")}`;
}

function isPresent(name) {
  return name === "browser" ? findBrowser() !== undefined : findTool(tools[name]) !== undefined;
}

/** How to run a command as root without a question: [] as root, sudo -n, or undefined. */
function rootPrefix() {
  if (process.getuid?.() === 0) return [];
  const sudo = spawnSync("sudo", ["-n", "true"], { stdio: "ignore" });
  return sudo.status === 0 ? ["sudo", "-n"] : undefined;
}

async function aptInstall(prefix, packages) {
  const apt = (args, append) => {
    const [command, ...rest] = [
      ...prefix,
      "env",
      "DEBIAN_FRONTEND=noninteractive",
      "apt-get",
      ...args,
    ];
    return runLogged("apt", command, rest, { append });
  };
  // A failure shows as a package that is still missing; the log holds the reason.
  await apt(["update", "-q"], false);
  await apt(["install", "-y", "-q", "--no-install-recommends", ...packages], true);
}
