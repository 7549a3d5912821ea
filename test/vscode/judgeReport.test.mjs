import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { judgeReport } from "./judgeReport.mjs";

let folder;
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), "tidepool-report-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

function judge(content, exitCode) {
  const file = path.join(folder, "report.json");
  if (content !== undefined) writeFileSync(file, content);
  return judgeReport(file, exitCode);
}
const report = (...states) =>
  JSON.stringify({ complete: true, results: states.map((state) => ({ title: "t", state })) });

it("does not believe exit code 0 without a report, as when the host was killed", () => {
  expect(judge(undefined, 0)).toMatchObject({ passed: 0, failed: 1 });
});
it("does not believe half a report", () => {
  expect(judge('{"complete": true, "resu', 0)).toMatchObject({ passed: 0, failed: 1 });
  expect(judge('{"complete": false, "results": []}', 0)).toMatchObject({ passed: 0, failed: 1 });
});
it("fails a run without tests", () => {
  expect(judge(report("skipped"), 0)).toMatchObject({ passed: 0, failed: 1, skipped: 1 });
});
it("counts the states and keeps a bad exit code a failure", () => {
  expect(judge(report("passed", "failed", "skipped"), 1)).toMatchObject({
    passed: 1,
    failed: 1,
    skipped: 1,
  });
  expect(judge(report("passed"), 1)).toMatchObject({ passed: 1, failed: 1 });
  expect(judge(report("passed", "passed"), 0)).toMatchObject({ passed: 2, failed: 0 });
});
