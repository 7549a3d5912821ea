// A fast typist in a real editor: no key is lost, and the extension host has nothing to do most of the time.
import assert from "node:assert/strict";
import * as vscode from "vscode";
import { openFile, testApi, typeAtRate, wordsFor } from "./editing.ts";

const KEYS_PER_SECOND = 12;
/** `npm run test:typing` types for two minutes. */
const SECONDS = Number(process.env["TIDEPOOL_TYPING_SECONDS"] ?? 10);
/** A machine that runs other suites beside this one makes everything take longer. */
const MOST_BUSY = process.env["TIDEPOOL_TYPING_SECONDS"] === undefined ? 0.1 : 0.05;

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
  it(`at ${KEYS_PER_SECOND} keys a second for ${SECONDS} s loses no key and leaves the extension host idle`, async function () {
    this.timeout((SECONDS + 30) * 1000);
    const api = await testApi();
    const editor = await openFile("typist.py", "");
    const asked = api.counters().asked;
    const figures = await typeAtRate(CODE, KEYS_PER_SECOND, SECONDS);
    const { typed, keys, busy } = figures;
    const text = editor.document.getText();
    if (this.test) this.test.title += `: ${wordsFor(figures)}`;
    await vscode.commands.executeCommand("workbench.action.revertAndCloseActiveEditor");
    // Brackets that the editor closed behind the cursor may still wait to be typed over.
    assert.equal(text.slice(0, typed.length), typed);
    assert.match(text.slice(typed.length), /^[)\]}"']*$/);
    // On a slow machine the editor leaves out most keys; figures of a typist who was never helped would say nothing.
    assert.ok(api.counters().asked - asked > keys / 10, "completions were not asked for");
    assert.ok(busy <= MOST_BUSY, wordsFor(figures));
  });
});
