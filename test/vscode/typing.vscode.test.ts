// A fast typist in a real editor: no key is lost, and the extension host has nothing to do most of the time.
import assert from "node:assert/strict";
import * as vscode from "vscode";
import { openFile, testApi, typeAtRate, wordsFor } from "./editing.ts";

const KEYS_PER_SECOND = 12;
/** `npm run test:typing` types for two minutes. */
const SECONDS = Number(process.env["TIDEPOOL_TYPING_SECONDS"] ?? 10);
/** Milliseconds that a key may cost the extension host beyond what it costs without Tidepool; a short run is less exact. */
const MOST_MS_PER_KEY = process.env["TIDEPOOL_TYPING_SECONDS"] === undefined ? 4 : 2;

const CODE = [
  "from dataclasses import dataclass",
  "total = compute(alpha, beta[1])",
  'names = {"first": total, "second": [1, 2, 3]}',
  "# the sum of all that was counted",
  "print(total, names, sep='; ')",
  "result = sorted(names.items(), key=lambda pair: pair[1])",
  "",
].join("\n");

describe("typing", () => {
  it(`at ${KEYS_PER_SECOND} keys a second for ${SECONDS} s loses no key and leaves the extension host to others`, async function () {
    this.timeout((2 * SECONDS + 40) * 1000);
    const api = await testApi();
    await openFile("alone.py", "");
    // Code that runs for the first time is compiled first: of the editor as well as of Tidepool.
    await typeAtRate(CODE, KEYS_PER_SECOND, SECONDS / 3);
    // What the editor and the commands of this test take by themselves.
    await vscode.commands.executeCommand("tidepool.toggle");
    const off = await typeAtRate(CODE, KEYS_PER_SECOND, SECONDS / 2).finally(() =>
      vscode.commands.executeCommand("tidepool.toggle"),
    );
    await vscode.commands.executeCommand("workbench.action.revertAndCloseActiveEditor");
    const editor = await openFile("typist.py", "");
    const asked = api.counters().asked;
    const on = await typeAtRate(CODE, KEYS_PER_SECOND, SECONDS);
    const { typed } = on;
    const text = editor.document.getText();
    const msPerKey =
      (1000 * (on.busy * on.seconds)) / on.keys - (1000 * (off.busy * off.seconds)) / off.keys;
    if (this.test)
      this.test.title += `: ${wordsFor(on)}; switched off: ${wordsFor(off)}; ${msPerKey.toFixed(1)} ms of Tidepool a key`;
    await vscode.commands.executeCommand("workbench.action.revertAndCloseActiveEditor");
    // Brackets that the editor closed behind the cursor may still wait to be typed over.
    assert.equal(text.slice(0, typed.length), typed);
    assert.match(text.slice(typed.length), /^[)\]}"']*$/);
    // On a slow machine the editor leaves out most keys; figures of a typist who was never helped would say nothing.
    assert.ok(api.counters().asked - asked > on.keys / 10, "completions were not asked for");
    assert.ok(msPerKey <= MOST_MS_PER_KEY, this.test?.title);
  });
});
