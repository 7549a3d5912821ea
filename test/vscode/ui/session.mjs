// One browser session on a served VS Code that has nothing but the packaged extension installed.
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { makeRuntimeDir, stopEngine } from "../../../scripts/lib/engineProcess.mjs";
import {
  installExtension,
  startVscode,
  workbenchUrl,
  writeSettings,
} from "../../../scripts/lib/vscodeProcess.mjs";
import { startBrowser } from "../browser.mjs";
import { makeTestWorkspace } from "../workspace.mjs";
import { EditorPage } from "./editorPage.mjs";

/**
 * Installs the package, starts server and browser, opens the sample workspace. `stop` undoes all of it. With
 * `asksForTrust` VS Code asks whether the workspace is trusted; otherwise it is.
 */
export async function openSession({ asksForTrust = false } = {}) {
  const serverMain = requireEnv("VSCODE_SERVER_MAIN");
  const vsix = requireEnv("TIDEPOOL_TEST_VSIX");
  const folder = mkdtempSync(path.join(tmpdir(), "tidepool-ui-"));
  const workspace = path.join(folder, "workspace");
  const data = path.join(folder, "server");
  mkdirSync(data);
  makeTestWorkspace(workspace);
  writeSettings(data);
  const runtimeDir = makeRuntimeDir();
  const undo = [
    () => rmSync(folder, { recursive: true, force: true, maxRetries: 5 }),
    () => stopEngine(runtimeDir),
  ];
  const stop = async () => {
    while (undo.length > 0) await undo.pop()();
  };
  try {
    await installExtension({ serverMain, data, vsix });
    const server = await startVscode({
      serverMain,
      data,
      env: { TIDEPOOL_RUNTIME_DIR: runtimeDir },
      asksForTrust,
    });
    undo.push(server.stop);
    const browser = await startBrowser();
    undo.push(browser.stop);
    await browser.page.goto(workbenchUrl({ port: server.port, folder: workspace }));
    return {
      editor: new EditorPage(browser.page),
      runtimeDir,
      workspace,
      cli: installedCli(data),
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** The command-line client inside the installed extension. */
function installedCli(data) {
  const extensions = path.join(data, "extensions");
  const name = readdirSync(extensions).find((entry) => entry.startsWith("tidepool."));
  if (name === undefined) throw new Error(`no extension folder "tidepool.*" in ${extensions}`);
  return path.join(extensions, name, "dist", "cli.js");
}

function requireEnv(name) {
  const value = process.env[name];
  if (value === undefined) throw new Error(`${name} must be set: run test/vscode/run.mjs`);
  return value;
}
