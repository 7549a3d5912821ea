// `npm run test:desktop`: the suites of *.vscode.test.ts in a desktop VS Code, which @vscode/test-electron downloads.
// Runs the oldest supported version and the newest one; needs a network and a display (xvfb-run on a server).
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { runTests } from "@vscode/test-electron";
import { buildProduct, installForBuild } from "../../scripts/lib/build.mjs";
import { makeRuntimeDir, stopEngine } from "../../scripts/lib/engineProcess.mjs";
import { root } from "../../scripts/lib/paths.mjs";
import { bundleTests } from "./bundleTests.mjs";
import { judgeReport } from "./judgeReport.mjs";
import { makeTestWorkspace } from "./workspace.mjs";

const VERSIONS = ["1.100.3", "stable"];

async function runVersion(version, testsPath) {
  const folder = mkdtempSync(path.join(tmpdir(), "tidepool-desktop-"));
  const report = path.join(folder, "report.json");
  const workspace = path.join(folder, "workspace");
  makeTestWorkspace(workspace);
  const runtimeDir = makeRuntimeDir();
  try {
    const code = await runTests({
      version,
      extensionDevelopmentPath: root,
      extensionTestsPath: testsPath,
      launchArgs: [workspace, "--disable-workspace-trust", "--disable-extensions"],
      extensionTestsEnv: {
        TIDEPOOL_TEST_REPORT: report,
        TIDEPOOL_RUNTIME_DIR: runtimeDir,
        TIDEPOOL_TEST_API: "1",
      },
    }).catch((error) => {
      process.stderr.write(`VS Code ${version}: ${error.message}\n`);
      return 1;
    });
    return judgeReport(report, code);
  } finally {
    await stopEngine(runtimeDir);
    rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
  }
}

await installForBuild();
await buildProduct();
const testsPath = await bundleTests();
const sum = { passed: 0, failed: 0, skipped: 0 };
for (const version of VERSIONS) {
  const result = await runVersion(version, testsPath);
  for (const line of result.lines) process.stdout.write(`VS Code ${version}: ${line}\n`);
  for (const key of Object.keys(sum)) sum[key] += result[key];
}
process.stdout.write(
  `desktop: ${sum.passed} passed, ${sum.failed} failed, ${sum.skipped} skipped\n`,
);
process.exit(sum.failed === 0 ? 0 : 1);
