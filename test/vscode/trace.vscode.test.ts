// "Why No Suggestion?" and its report in a real editor, and the modes beside it.
import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import * as vscode from "vscode";
import type { TestApi } from "../../src/extension.ts";
import { askedAfterTyping, openFile, testApi, type } from "./editing.ts";
import { engineState, eventually } from "./engineProbe.ts";

const SHOWN_MS = 20_000;
const WHY = "tidepool.whyNoSuggestion";
const COPY = "tidepool.copyReport";
const MARKER = "# Tidepool: completion report";

/** The document that the command opened, once it says `wanted`. */
async function whyDocument(wanted: RegExp): Promise<string> {
  let text = "";
  await eventually(`a trace says ${wanted}`, SHOWN_MS, async () => {
    await vscode.commands.executeCommand(WHY);
    const shown = vscode.workspace.textDocuments.find(({ uri }) => uri.scheme === "tidepool-trace");
    text = shown?.getText() ?? "";
    return wanted.test(text);
  }).catch((error: unknown) => {
    throw new Error(`${String(error)}; the document says: ${text}`);
  });
  return text;
}

async function report(): Promise<string> {
  await vscode.env.clipboard.writeText("");
  let text = "";
  await eventually("the report is in the clipboard", SHOWN_MS, async () => {
    await vscode.commands.executeCommand(COPY);
    text = await vscode.env.clipboard.readText();
    return text.startsWith(MARKER);
  });
  return text;
}

const set = (key: string, value: unknown): Thenable<void> =>
  vscode.workspace
    .getConfiguration("tidepool")
    .update(key, value, vscode.ConfigurationTarget.Workspace);

/** Requests of the suites before may still run on a slow machine; they would be the last ones that are told of. */
async function untilIdle(): Promise<void> {
  let idle = 0;
  await eventually("the engine is idle", 2 * SHOWN_MS, async () => {
    await sleep(100);
    const { running, waiting } = (await engineState()).sequences;
    idle = running + waiting === 0 ? idle + 1 : 0;
    return idle >= 10;
  });
}

describe("why no suggestion", () => {
  let api: TestApi;
  before(async () => {
    api = await testApi();
    await eventually("the engine is ready", SHOWN_MS, () =>
      Promise.resolve(api.state().kind === "ready"),
    );
  });
  beforeEach(untilIdle);
  afterEach(async () => {
    await set("mode", undefined);
    await set("enableLanguages", undefined);
    await vscode.commands.executeCommand("workbench.action.closeAllEditors");
  });

  it("tells stages, prompt, tokens and filters when what the model says is not shown, and the report holds no code", async () => {
    await set("mode", "quiet");
    // Nobody can be sure how a text of random letters goes on.
    await openFile(
      "zebrafish.py",
      'quokkaName = 41\n\n\ndef wombatCount(numbatList):\n    return "kqx',
    );
    await askedAfterTyping(api, "z", ({ input_prefix }) => input_prefix.endsWith("kqxz"));
    const text = await whyDocument(
      /^# Why no suggestion: (?!the document changed)[\s\S]*Nothing was shown[\s\S]*## Tokens/,
    );
    for (const part of ["| file guard ", "| debounce ", "| context ", "| engine: prefill "])
      assert.ok(text.includes(part), `${part} is missing in ${text}`);
    assert.match(text, /mode: quiet/);
    assert.match(
      text,
      /Before the cursor:\s+```text[\s\S]*def wombatCount\(numbatList\):\s+return "kqxz\n/,
    );
    const copied = await report();
    assert.match(copied, /engine: prefill/);
    assert.match(copied, /- model: /);
    assert.doesNotMatch(copied, /zebrafish|quokka|wombat|numbat/i);
  });

  it("says in words that the cursor stands in the middle of code, and what to do", async () => {
    const editor = await openFile("middle.py", "total = first + second\n");
    const position = new vscode.Position(0, 8);
    editor.selection = new vscode.Selection(position, position);
    await type("q");
    // An answer to the request that opening the file made may still come in between.
    await eventually("the outcome is that of the key", SHOWN_MS, () =>
      Promise.resolve(/middle of code/.test(api.lastOutcome())),
    );
    assert.match(await whyDocument(/^# Why no suggestion: [^\n]*middle of code/), /Complete Now/);
  });

  it("says that the language is off as soon as it is", async () => {
    await set("enableLanguages", { "*": true, python: false });
    await openFile("off.py", "x = ");
    const text = await whyDocument(/completions are off for the language “python”/);
    assert.match(text, /tidepool\.enableLanguages/);
  });

  it("says what keeps a file out of every prompt", async () => {
    await openFile(".env", "TOKEN=");
    await whyDocument(/nothing is asked in this file: files of this name hold secrets/);
  });

  it("tells what a shown suggestion was made of", async () => {
    const line = "total_of_all_boxes = count(boxes)\n";
    await openFile("shown.py", `${line}print(total_of_all_boxes)\n${line}print(`);
    await type("total_of_a");
    await whyDocument(/Shown: \d+ characters/);
    await vscode.commands.executeCommand("editor.action.inlineSuggest.hide");
  });

  it("forgets what was learned when told to", async () => {
    await vscode.commands.executeCommand("tidepool.resetLearned");
    await openFile("anew.py", "x = ");
    await type("1");
    await whyDocument(/nothing was learned yet/);
  });
});

describe("Tab", () => {
  before(testApi);
  afterEach(() => vscode.commands.executeCommand("workbench.action.closeAllEditors"));

  it("indents where no text is visible on the cursor's line", async () => {
    const editor = await openFile("indent.py", "def first():\n    pass\n\n\ndef second():\n");
    await type(" ");
    await vscode.commands.executeCommand("editor.action.inlineSuggest.hide");
    await vscode.commands.executeCommand("tab");
    const line = editor.document.lineAt(editor.selection.active.line).text;
    assert.match(line, /^ {4}$/);
  });
});
