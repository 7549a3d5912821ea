// Reads how many tests passed and failed out of what each runner left behind.
// Every reader treats a report that is missing, empty or unreadable as a failure, never as a success.

const failure = (note) => ({ passed: 0, failed: 1, skipped: 0, note });

/** The closing line `<name>: N passed, N failed[, N skipped]` that our own runners print last. */
export function fromClosingLine(name, output, exitCode) {
  const pattern = new RegExp(`^${name}: (\\d+) passed, (\\d+) failed(?:, (\\d+) skipped)?$`, "gm");
  const match = [...output.matchAll(pattern)].at(-1);
  if (match === undefined) return failure(`ended with code ${exitCode} and no closing line`);
  const counts = {
    passed: Number(match[1]),
    failed: Number(match[2]),
    skipped: Number(match[3] ?? 0),
  };
  if (counts.passed + counts.failed === 0) return failure("ran no test");
  return exitCode !== 0 && counts.failed === 0
    ? { ...counts, failed: 1, note: `ended with code ${exitCode}` }
    : counts;
}

/** Vitest's JSON report. A file that fails outside its tests (import, hook) counts as one failure. */
export function fromVitest(report, exitCode) {
  if (report === undefined) return failure(`ended with code ${exitCode} and no report`);
  const counts = { passed: 0, failed: 0, skipped: 0 };
  for (const file of report.testResults) {
    const states = file.assertionResults.map((test) => test.status);
    const failed = states.filter((state) => state === "failed").length;
    counts.passed += states.filter((state) => state === "passed").length;
    counts.skipped += states.length - states.filter((s) => s === "passed" || s === "failed").length;
    counts.failed += file.status === "failed" && failed === 0 ? 1 : failed;
  }
  if (counts.passed + counts.failed === 0) return failure("ran no test");
  if (exitCode !== 0 && counts.failed === 0) {
    return { ...counts, failed: 1, note: `all tests passed, yet it ended with code ${exitCode}` };
  }
  return counts;
}

/** Output of `python3 -m unittest`. */
export function fromUnittest(output, exitCode) {
  const ran = /^Ran (\d+) tests? in /m.exec(output);
  if (ran === null || Number(ran[1]) === 0)
    return failure(`ended with code ${exitCode}, ran no test`);
  const detail = /^(?:OK|FAILED)(?: \((.*)\))?$/m.exec(output)?.[1] ?? "";
  const count = (word) => Number(new RegExp(`(?:^|, )${word}=(\\d+)`).exec(detail)?.[1] ?? 0);
  const failed = count("failures") + count("errors") + count("unexpected successes");
  const skipped = count("skipped");
  const passed = Number(ran[1]) - failed - skipped - count("expected failures");
  return { passed, failed: exitCode !== 0 && failed === 0 ? 1 : failed, skipped };
}

/** A stage that either holds or does not: one test. */
export function fromExitCode(exitCode) {
  return exitCode === 0
    ? { passed: 1, failed: 0, skipped: 0 }
    : { ...failure(`ended with code ${exitCode}`) };
}
