// The extension host loads this file and calls `run`. It writes a report when Mocha has ended, because the
// workbench reports exit code 0 even when the host was killed: the runner believes the report, never the code alone.
import { readdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import type { HostReport } from "./hostReport.ts";

const TEST_TIMEOUT_MS = 30_000;

/** Runs every bundled suite, or that which TIDEPOOL_TEST_ONLY names; rejects when a test failed, which ends VS Code with a bad code. */
export async function run(): Promise<void> {
  const reportFile = process.env["TIDEPOOL_TEST_REPORT"];
  if (reportFile === undefined) throw new Error("TIDEPOOL_TEST_REPORT must name the report file");
  const { default: Mocha } = await import("mocha");
  const mocha = new Mocha({ ui: "bdd", color: false, timeout: TEST_TIMEOUT_MS, forbidOnly: true });
  const only = process.env["TIDEPOOL_TEST_ONLY"];
  const suites = readdirSync(__dirname).filter(
    (file) =>
      file.endsWith(".vscode.test.js") && (only === undefined || file.startsWith(`${only}.`)),
  );
  for (const file of suites.sort()) mocha.addFile(path.join(__dirname, file));
  await mocha.loadFilesAsync();
  const report: HostReport = { complete: false, results: [] };
  await new Promise<void>((resolve) => {
    const runner = mocha.run(() => resolve());
    runner.on("pass", (test) => report.results.push({ title: test.fullTitle(), state: "passed" }));
    runner.on("pending", (test) =>
      report.results.push({ title: test.fullTitle(), state: "skipped" }),
    );
    runner.on("fail", (test, error: unknown) => {
      const message = error instanceof Error ? (error.stack ?? error.message) : String(error);
      report.results.push({ title: test.fullTitle(), state: "failed", message });
    });
  });
  report.complete = true;
  writeFileSync(reportFile, JSON.stringify(report, null, 1));
  const failed = report.results.filter((result) => result.state === "failed").length;
  if (failed > 0) throw new Error(`${failed} of ${report.results.length} tests failed`);
}
