// Turns the report of an in-host run into counts. A report that is missing or incomplete means that the host died.
import { existsSync, readFileSync } from "node:fs";

/**
 * @param {string} reportFile path given to the host as TIDEPOOL_TEST_REPORT
 * @param {number} exitCode what VS Code said; 0 alone proves nothing
 * @returns {{passed: number, failed: number, skipped: number, lines: string[]}}
 */
export function judgeReport(reportFile, exitCode) {
  const report = readReport(reportFile);
  if (report?.complete !== true) {
    const reason = `the extension host wrote no complete report (VS Code said ${exitCode}): it died or hung`;
    return { passed: 0, failed: 1, skipped: 0, lines: [reason] };
  }
  const count = (state) => report.results.filter((result) => result.state === state).length;
  const [passed, failed, skipped] = [count("passed"), count("failed"), count("skipped")];
  const lines = report.results.map(({ title, state, message }) =>
    message === undefined ? `${state}: ${title}` : `${state}: ${title}\n${message}`,
  );
  if (passed + failed === 0) return { passed, failed: 1, skipped, lines: ["no test ran"] };
  if (exitCode !== 0 && failed === 0) {
    return { passed, failed: 1, skipped, lines: [...lines, `VS Code ended with ${exitCode}`] };
  }
  return { passed, failed, skipped, lines };
}

function readReport(file) {
  if (!existsSync(file)) return undefined;
  try {
    return JSON.parse(readFileSync(file, "utf8"));
  } catch {
    // Half a file: the host ended while it wrote.
    return undefined;
  }
}
