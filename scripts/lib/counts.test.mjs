import { describe, expect, it } from "vitest";
import { fromClosingLine, fromExitCode, fromUnittest, fromVitest } from "./counts.mjs";

const file = (status, ...states) => ({
  status,
  assertionResults: states.map((s) => ({ status: s })),
});

describe("a closing line", () => {
  it("is read from the last line that has the suite's name", () => {
    const output =
      "native: 1 passed, 0 failed\nother: 9 passed, 9 failed\nnative: 7 passed, 2 failed\n";
    expect(fromClosingLine("native", output, 1)).toEqual({ passed: 7, failed: 2, skipped: 0 });
  });
  it("that is missing counts as a failure, even with exit code 0", () => {
    expect(fromClosingLine("native", "all fine\n", 0).failed).toBe(1);
  });
  it("of a run without tests counts as a failure", () => {
    expect(fromClosingLine("vscode", "vscode: 0 passed, 0 failed\n", 0).failed).toBe(1);
  });
  it("without failures does not hide a bad exit code", () => {
    expect(fromClosingLine("vscode", "vscode: 4 passed, 0 failed\n", 3).failed).toBe(1);
  });
  it("keeps what was skipped out of what passed", () => {
    const counts = fromClosingLine("vscode", "vscode: 4 passed, 0 failed, 2 skipped\n", 0);
    expect(counts).toEqual({ passed: 4, failed: 0, skipped: 2 });
  });
});

describe("a vitest report", () => {
  it("gives the states of all tests", () => {
    const report = {
      testResults: [file("passed", "passed", "skipped"), file("failed", "failed", "passed")],
    };
    expect(fromVitest(report, 1)).toEqual({ passed: 2, failed: 1, skipped: 1 });
  });
  it("counts a file that could not be loaded", () => {
    expect(fromVitest({ testResults: [file("failed"), file("passed", "passed")] }, 1).failed).toBe(
      1,
    );
  });
  it("counts an error outside every test", () => {
    expect(fromVitest({ testResults: [file("passed", "passed")] }, 1).failed).toBe(1);
  });
  it("that is missing or empty counts as a failure", () => {
    expect(fromVitest(undefined, 0).failed).toBe(1);
    expect(fromVitest({ testResults: [] }, 0).failed).toBe(1);
  });
});

describe("a unittest run", () => {
  it("separates failures, errors and skipped tests", () => {
    const output = "Ran 9 tests in 0.1s\n\nFAILED (failures=1, errors=2, skipped=3)\n";
    expect(fromUnittest(output, 1)).toEqual({ passed: 3, failed: 3, skipped: 3 });
  });
  it("passes when all ran", () => {
    expect(fromUnittest("Ran 1 test in 0.1s\n\nOK\n", 0)).toEqual({
      passed: 1,
      failed: 0,
      skipped: 0,
    });
  });
  it("counts as failed when it died or found no test", () => {
    expect(fromUnittest("Ran 3 tests in 0.1s\n\nOK\n", 139).failed).toBe(1);
    expect(fromUnittest("Ran 0 tests in 0.0s\n\nOK\n", 0).failed).toBe(1);
    expect(fromUnittest("Traceback\n", 1).failed).toBe(1);
  });
});

describe("an exit code", () => {
  it("is one test", () => {
    expect(fromExitCode(0)).toEqual({ passed: 1, failed: 0, skipped: 0 });
    expect(fromExitCode(1).failed).toBe(1);
  });
});
