import type { Check } from "./check.ts";

/** One line per check, names and states aligned; the advice stands behind what was found. */
export function formatChecks(checks: readonly Check[]): string {
  const width = Math.max(0, ...checks.map(({ name }) => name.length));
  const lines = checks.map(({ name, state, found, advice }) => {
    const text = `${state.padEnd(4)}  ${name.padEnd(width)}  ${found}`;
    return oneLine(advice === undefined ? text : `${text}; to do: ${advice}`);
  });
  return `${[...lines, verdict(checks)].join("\n")}\n`;
}

function verdict(checks: readonly Check[]): string {
  const count = (state: Check["state"]) => checks.filter((check) => check.state === state).length;
  const [nFailed, nWarned] = [count("fail"), count("warn")];
  if (nFailed > 0) return `${nFailed} of ${checks.length} checks failed, ${nWarned} with a warning`;
  return nWarned > 0 ? `nothing failed, ${nWarned} with a warning` : "nothing is wrong";
}

function oneLine(text: string): string {
  return text.replaceAll(/\s*[\r\n]+\s*/g, " ");
}
