// Runs the Mocha suites inside the extension host of a served VS Code, with the checkout as the extension under development.
import { appendFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { format } from "node:util";
import { makeRuntimeDir, stopEngine } from "../../scripts/lib/engineProcess.mjs";
import { logsDir, root } from "../../scripts/lib/paths.mjs";
import { startVscode, workbenchUrl, writeSettings } from "../../scripts/lib/vscodeProcess.mjs";
import { startBrowser } from "./browser.mjs";
import { judgeReport } from "./judgeReport.mjs";
import { makeTestWorkspace } from "./workspace.mjs";

const LIMIT_MS = 420_000;
const HANG = 124;
const DIED = 3;
// Console of the extension host; noisy, because optional native modules of the server are not built.
const hostLog = path.join(logsDir, "vscode-host.log");

/** @returns {Promise<{passed: number, failed: number, skipped: number, lines: string[]}>} */
export async function runInHost({ serverMain, testsPath }) {
  const folder = mkdtempSync(path.join(tmpdir(), "tidepool-host-"));
  const report = path.join(folder, "report.json");
  const workspace = path.join(folder, "workspace");
  const data = path.join(folder, "server");
  mkdirSync(data);
  makeTestWorkspace(workspace);
  writeSettings(data);
  const runtimeDir = makeRuntimeDir();
  const env = {
    TIDEPOOL_TEST_REPORT: report,
    TIDEPOOL_RUNTIME_DIR: runtimeDir,
    TIDEPOOL_TEST_API: "1",
  };
  const server = await startVscode({ serverMain, data, env, testMode: true });
  try {
    const code = await driveBrowser(server.port, { workspace, testsPath });
    return judgeReport(report, code);
  } finally {
    await server.stop();
    await stopEngine(runtimeDir);
    rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
  }
}

/** Opens the workbench with the test payload; resolves to the code that it reports. */
async function driveBrowser(port, { workspace, testsPath }) {
  mkdirSync(logsDir, { recursive: true });
  writeFileSync(hostLog, "");
  const browser = await startBrowser();
  let timer;
  try {
    const remote = (file) => `vscode-remote://127.0.0.1:${port}${file}`;
    const payload = [
      ["extensionDevelopmentPath", remote(root)],
      ["extensionTestsPath", remote(testsPath)],
    ];
    const ended = new Promise((resolve) => {
      timer = setTimeout(() => resolve(HANG), LIMIT_MS);
      browser.page.on("crash", () => resolve(DIED));
      browser.exit = resolve;
    });
    // The workbench calls these two functions of its window when it runs tests.
    await browser.page.exposeFunction("codeAutomationExit", (code) => browser.exit(code));
    await browser.page.exposeFunction("codeAutomationLog", (_type, args) => {
      appendFileSync(hostLog, `${format(...args)}\n`);
    });
    await browser.page.goto(workbenchUrl({ port, folder: workspace, payload }));
    return await ended;
  } finally {
    clearTimeout(timer);
    await browser.stop();
  }
}
