// Child processes whose output goes to a log file, so that the terminal shows only what matters.
import { spawn } from "node:child_process";
import { closeSync, mkdirSync, openSync, readFileSync } from "node:fs";
import path from "node:path";
import { logsDir, root } from "./paths.mjs";

/** A command that failed; `logFile` holds its whole output. */
export class CommandError extends Error {
  constructor(message, logFile) {
    super(message);
    this.logFile = logFile;
  }
}

/**
 * Runs a command in the checkout and appends its output to `.cache/logs/<name>.log`.
 * @returns {Promise<{code: number, output: string, logFile: string}>} code 127 when it cannot be started, 128+N for a signal.
 */
export async function runLogged(name, command, args, options = {}) {
  mkdirSync(logsDir, { recursive: true });
  const logFile = path.join(logsDir, `${name}.log`);
  const fd = openSync(logFile, options.append ? "a" : "w");
  const { code, reason } = await new Promise((resolve) => {
    const child = spawn(command, args, {
      cwd: options.cwd ?? root,
      env: { ...process.env, FORCE_COLOR: "0", NO_COLOR: "1", ...options.env },
      stdio: ["ignore", fd, fd],
    });
    child.once("error", (error) => resolve({ code: 127, reason: error.message }));
    child.once("exit", (exitCode, signal) =>
      resolve({ code: exitCode ?? 128, reason: signal ? `ended by ${signal}` : "" }),
    );
  });
  closeSync(fd);
  const output = readFileSync(logFile, "utf8") + (reason ? `${command}: ${reason}\n` : "");
  return { code, output, logFile };
}

/** Like runLogged, but throws a one-line CommandError when the command fails. */
export async function mustRun(name, command, args, options = {}) {
  const result = await runLogged(name, command, args, options);
  if (result.code === 0) return result;
  const line = `${[path.basename(command), ...args].join(" ").slice(0, 120)} ended with code ${result.code}: ${lastLine(result.output)}`;
  throw new CommandError(line, result.logFile);
}

/** The last line that says something, cut to 200 characters. */
export function lastLine(text) {
  const lines = text.split("\n").filter((line) => line.trim() !== "");
  return (lines.at(-1) ?? "no output").trim().slice(0, 200);
}

/** Path of a tool that npm installed into the checkout. */
export const localBin = (tool) => path.join(root, "node_modules", ".bin", tool);
