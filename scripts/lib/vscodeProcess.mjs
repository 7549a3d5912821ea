// Starts and stops one VS Code server on the loopback interface. Whoever starts it stops it.
import { spawn } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { mustRun } from "./runCommand.mjs";

const START_TIMEOUT_MS = 30_000;
const STOP_TIMEOUT_MS = 3000;

/** Settings that keep the workbench quiet: no welcome page, no recommendations, nothing sent anywhere. */
const quietSettings = {
  "workbench.startupEditor": "none",
  "workbench.tips.enabled": false,
  "extensions.ignoreRecommendations": true,
  "telemetry.telemetryLevel": "off",
};

const dirFlags = (data) => [
  ...["--server-data-dir", data],
  ...["--user-data-dir", path.join(data, "data")],
  ...["--extensions-dir", path.join(data, "extensions")],
];

/** Writes the machine settings of the server that keeps its state in `data`. */
export function writeSettings(data, settings = {}) {
  const folder = path.join(data, "data", "Machine");
  mkdirSync(folder, { recursive: true });
  const all = { ...quietSettings, ...settings };
  writeFileSync(path.join(folder, "settings.json"), JSON.stringify(all, null, 2));
}

/** Installs a .vsix for the server that keeps its state in `data`. */
export async function installExtension({ serverMain, data, vsix }) {
  const flags = [...dirFlags(data), "--install-extension", vsix, "--force"];
  const node = process.env.VSCODE_SERVER_NODE ?? process.execPath;
  const { output, logFile } = await mustRun("vscode-install", node, [serverMain, ...flags]);
  // The server says so in words only: its exit code is 0 even when an extension does not fit.
  if (!output.includes("was successfully installed")) {
    throw new Error(`VS Code did not install ${path.basename(vsix)}: see ${logFile}`);
  }
}

/**
 * Starts the server. `token` undefined means that no token is asked for: only for throw-away servers of tests.
 * @returns {Promise<{port: number, log: () => string, exited: Promise<void>, stop: () => Promise<void>}>}
 */
export async function startVscode({
  serverMain,
  data,
  token,
  port = 0,
  env = {},
  testMode = false,
  asksForTrust = false,
}) {
  const flags = [
    ...dirFlags(data),
    ...["--host", "127.0.0.1", "--port", String(port)],
    ...(token === undefined ? ["--without-connection-token"] : ["--connection-token", token]),
    ...["--accept-server-license-terms", "--telemetry-level", "off"],
    ...(asksForTrust ? [] : ["--disable-workspace-trust"]),
    // Newer versions ignore the test payload of the address without this switch.
    ...(testMode ? ["--enable-smoke-test-driver"] : []),
  ];
  const node = process.env.VSCODE_SERVER_NODE ?? process.execPath;
  const { VSCODE_CLI: _cli, VSCODE_IPC_HOOK_CLI: _hook, ...inherited } = process.env;
  const child = spawn(node, [serverMain, ...flags], {
    stdio: ["ignore", "pipe", "pipe"],
    // Its own process group, so that stopping it takes the extension hosts along and nothing else.
    detached: true,
    env: { ...inherited, ...env },
  });
  const output = { text: "" };
  const exited = new Promise((resolve) => child.once("exit", () => resolve()));
  const seenPort = await waitForPort(child, output).catch(async (error) => {
    await stopGroup(child, exited);
    throw error;
  });
  return { port: seenPort, log: () => output.text, exited, stop: () => stopGroup(child, exited) };
}

function waitForPort(child, output) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      reject(new Error(`the VS Code server named no port within ${START_TIMEOUT_MS} ms`));
    }, START_TIMEOUT_MS);
    const onData = (chunk) => {
      output.text += chunk;
      const match =
        /http:\/\/[^:\s]+:(\d+)/.exec(output.text) ?? /listening on (\d+)/i.exec(output.text);
      if (match === null) return;
      clearTimeout(timer);
      resolve(Number(match[1]));
    };
    child.stdout.on("data", onData);
    child.stderr.on("data", onData);
    child.once("error", reject);
    child.once("exit", (code) =>
      reject(
        new Error(`the VS Code server ended with code ${code}: ${output.text.trim().slice(-300)}`),
      ),
    );
  });
}

async function stopGroup(child, exited) {
  signalGroup(child, "SIGTERM");
  const timer = setTimeout(() => signalGroup(child, "SIGKILL"), STOP_TIMEOUT_MS);
  if (child.exitCode === null && child.signalCode === null) await exited;
  clearTimeout(timer);
  // Extension hosts may outlive the server that started them; the group id stays theirs until the last is gone.
  signalGroup(child, "SIGKILL");
}

function signalGroup(child, signal) {
  try {
    process.kill(-child.pid, signal);
  } catch (error) {
    if (error.code !== "ESRCH") throw error;
  }
}

/** Address of the workbench for a folder; `payload` starts a test run in the extension host. */
export function workbenchUrl({ port, folder, token, payload }) {
  const url = new URL(`http://127.0.0.1:${port}/`);
  if (token !== undefined) url.searchParams.set("tkn", token);
  if (folder !== undefined) url.searchParams.set("folder", folder);
  if (payload !== undefined) url.searchParams.set("payload", JSON.stringify(payload));
  return url.toString();
}
