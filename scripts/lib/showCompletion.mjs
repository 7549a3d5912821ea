// One completion of the sample workspace, shown in the terminal for somebody who has no browser at hand.
import { spawnSync } from "node:child_process";
import { inRoot } from "./paths.mjs";
import { lastLine } from "./runCommand.mjs";
import { samplePlace } from "./sample.mjs";

/** Runs the CLI as a user would and prints the file around the cursor, the completion marked as ghost text. */
export async function showCompletion({ workspace, runtimeDir, write = defaultWrite }) {
  const place = samplePlace(workspace);
  const result = spawnSync(
    process.execPath,
    [inRoot("dist", "cli.js"), "complete", place.spec, "--workspace", workspace, "--json"],
    { encoding: "utf8", env: { ...process.env, TIDEPOOL_RUNTIME_DIR: runtimeDir } },
  );
  if (result.status !== 0) {
    throw new Error(`the completion failed: ${lastLine(result.stderr)}`);
  }
  const answer = JSON.parse(result.stdout);
  if (answer.text === "")
    throw new Error("expected a completion of the sample, found an empty one");
  const { totalMs } = answer.timings;
  write(`\nOne completion (${place.file}, ${totalMs.toFixed(0)} ms):\n\n`);
  write(`${render(place, answer.text, process.stdout.isTTY === true)}\n\n`);
  return answer;
}

/** The lines around the cursor; the completion is dim on a terminal, else between « and ». */
function render({ before, after }, text, isTerminal) {
  const ghost = isTerminal ? `\x1b[2;3m${text}\x1b[0m` : `«${text}»`;
  return [...before.slice(0, -1), `${before.at(-1)}${ghost}`, ...after]
    .map((line) => `    ${line}`)
    .join("\n");
}

const defaultWrite = (text) => process.stdout.write(text);
