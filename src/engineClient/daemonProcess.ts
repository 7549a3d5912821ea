// Starts the daemon as a process of its own that outlives this one.
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { prepareRuntimeDir } from "../../engine/protocol/runtime.ts";

export interface LaunchPlan {
  /** Absolute path of the engine bundle. */
  script: string;
  /** Arguments after `serve`. */
  args: readonly string[];
  /** Runtime folder of the daemon: socket, lock and log. */
  runtimeDir: string;
  /** False ties the daemon to this process group, for one that serves a single command. */
  detached: boolean;
}

/** How a daemon ended that was started here; `message` is what it wrote about it. */
export interface DaemonExit {
  code: number | null;
  signal: NodeJS.Signals | null;
  message: string;
}

let launches = 0;

export class DaemonProcess {
  /** Set once the process has ended or could not be started. */
  exit: DaemonExit | undefined;
  readonly #child: ChildProcess;
  readonly #errorFile: string;

  /** Throws when the runtime folder cannot be made or written. */
  constructor(plan: LaunchPlan) {
    prepareRuntimeDir(plan.runtimeDir);
    this.#errorFile = join(plan.runtimeDir, `start-${process.pid}-${launches++}.log`);
    // A file and no pipe: a pipe that nobody reads any more would end the daemon at its next line to stderr.
    const errors = openSync(this.#errorFile, "w", 0o600);
    this.#child = spawn(process.execPath, [plan.script, "serve", ...plan.args], {
      cwd: plan.runtimeDir,
      detached: plan.detached,
      env: daemonEnvironment(plan.runtimeDir),
      stdio: ["ignore", "ignore", errors],
      windowsHide: true,
    });
    closeSync(errors);
    this.#child.once("error", (error) => this.#ended(null, null, error.message));
    this.#child.once("exit", (code, signal) => this.#ended(code, signal, ""));
    this.#child.unref();
  }

  /** Removes what only the start needed. The daemon keeps running. */
  release(): void {
    rmSync(this.#errorFile, { force: true });
  }

  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  #ended(code: number | null, signal: NodeJS.Signals | null, message: string): void {
    if (this.exit) return;
    this.exit = { code, signal, message: message || errorLine(readQuietly(this.#errorFile)) };
    this.release();
  }
}

/** The editor's debugger options would make the daemon wait for a debugger, or fight over its port. */
function daemonEnvironment(runtimeDir: string): NodeJS.ProcessEnv {
  const { NODE_OPTIONS: _options, VSCODE_INSPECTOR_OPTIONS: _inspector, ...kept } = process.env;
  return { ...kept, ELECTRON_RUN_AS_NODE: "1", TIDEPOOL_RUNTIME_DIR: runtimeDir };
}

function readQuietly(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch {
    // The folder is gone: there is no message to give, and the exit code still says that it failed.
    return "";
  }
}

/** The line of `stderr` that says what went wrong: without Node's stack and version lines. */
export function errorLine(stderr: string): string {
  const lines = stderr
    .split(/\r?\n/)
    .filter((line) => /\S/.test(line) && !/^(\s+at |Node\.js v)/.test(line));
  const thrown = lines.find((line) => /^\w*Error(?: \[\w+\])?: /.test(line));
  return (thrown ?? lines.at(-1) ?? "")
    .replace(/^(tidepool|error|\w*Error(?: \[\w+\])?): /i, "")
    .trim();
}
