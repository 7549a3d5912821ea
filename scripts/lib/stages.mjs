// Runs named stages one after the other, prints a line at each start and end, and sums up what they counted.
import { CommandError, lastLine } from "./runCommand.mjs";

const seconds = (sinceMs) => `${((Date.now() - sinceMs) / 1000).toFixed(1)} s`;
const DETAIL_LINES = 40;

/** Prints to the terminal and collects the result of every stage; nothing stops before `summary`. */
export class Stages {
  #results = [];
  #startMs = Date.now();
  #print;

  constructor(print = (line) => process.stdout.write(`${line}\n`)) {
    this.#print = print;
  }

  /**
   * Runs one stage. `work` resolves to {passed, failed, skipped, note?, output?, logFile?}; a throw is one failure.
   * @returns {Promise<boolean>} whether nothing failed
   */
  async run(name, work) {
    const startMs = Date.now();
    this.#print(`> ${name} ...`);
    const result = await settle(work);
    const time = seconds(startMs);
    this.#results.push({ name, time, ...result });
    if (result.failed > 0) this.#printDetail(result);
    this.#print(
      `< ${name}: ${countLine(result)} (${time})${result.note ? `; ${result.note}` : ""}`,
    );
    return result.failed === 0;
  }

  /** Records a stage that could not be tried; it counts as one failure unless `optional`. */
  skip(name, reason, { optional = false } = {}) {
    const result = { passed: 0, failed: optional ? 0 : 1, skipped: 1, note: reason };
    this.#results.push({ name, time: "", ...result });
    this.#print(`! ${name}: SKIPPED: ${reason}`);
  }

  /** Prints the table and, as the last line, `N passed, N failed`. Returns the process's exit code. */
  summary() {
    const total = (key) => this.#results.reduce((sum, result) => sum + result[key], 0);
    const width = Math.max(...this.#results.map((result) => result.name.length));
    this.#print(`\n${"stage".padEnd(width)}  passed  failed  skipped      time`);
    for (const { name, passed, failed, skipped, time } of this.#results) {
      const cells = [
        String(passed).padStart(6),
        String(failed).padStart(6),
        String(skipped).padStart(7),
      ];
      this.#print(`${name.padEnd(width)}  ${cells.join("  ")}  ${time.padStart(8)}`);
    }
    if (total("skipped") > 0) this.#print(`${total("skipped")} skipped: see the lines above`);
    this.#print(`total time ${seconds(this.#startMs)}`);
    const [passed, failed] = [total("passed"), total("failed")];
    this.#print(`${passed} passed, ${failed} failed`);
    return failed === 0 && passed > 0 ? 0 : 1;
  }

  #printDetail({ output, logFile }) {
    const lines = (output ?? "").trimEnd().split("\n").slice(-DETAIL_LINES);
    for (const line of lines) this.#print(`    ${line}`);
    if (logFile !== undefined) this.#print(`    full output: ${logFile}`);
  }
}

async function settle(work) {
  try {
    return await work();
  } catch (error) {
    const logFile = error instanceof CommandError ? error.logFile : undefined;
    const text = error instanceof Error ? error.message : String(error);
    return { passed: 0, failed: 1, skipped: 0, note: lastLine(text), output: text, logFile };
  }
}

const countLine = ({ passed, failed, skipped }) =>
  `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`;
