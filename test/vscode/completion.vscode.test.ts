import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import * as vscode from "vscode";
import { enginePid, engineState, eventually } from "./engineProbe.ts";

const VISIBLE_MS = 20_000;
// Longer than any debounce: what has not been asked for by then never will be.
const QUIET_MS = 1500;

let copies = 0;

/** Opens a fresh copy of the sample file with the cursor behind `total += `. */
async function openAtHole(): Promise<vscode.TextEditor> {
  const folder = vscode.workspace.workspaceFolders?.[0]?.uri;
  assert.ok(folder !== undefined, "no workspace folder is open");
  const file = vscode.Uri.joinPath(folder, `stock${copies++}.py`);
  await vscode.workspace.fs.copy(vscode.Uri.joinPath(folder, "inventory.py"), file);
  const document = await vscode.workspace.openTextDocument(file);
  const editor = await vscode.window.showTextDocument(document);
  const marker = "total += \n";
  const offset = document.getText().indexOf(marker);
  assert.notEqual(offset, -1, "inventory.py holds no unfinished line");
  const position = document.positionAt(offset + marker.length - 1);
  editor.selection = new vscode.Selection(position, position);
  return editor;
}

/** Types as a user does, so that every listener of the editor sees it. */
const type = (text: string): Thenable<unknown> => vscode.commands.executeCommand("type", { text });

/** Resolves once a suggestion is shown and its acceptance changed the document. */
async function acceptSuggestion(editor: vscode.TextEditor): Promise<void> {
  const before = editor.document.getText();
  await eventually("a suggestion is shown", VISIBLE_MS, async () => {
    await vscode.commands.executeCommand("editor.action.inlineSuggest.commit");
    return editor.document.getText() !== before;
  });
}

describe("inline completion", () => {
  let editor: vscode.TextEditor;
  beforeEach(async () => {
    await vscode.extensions.getExtension("tidepool.tidepool")?.activate();
    editor = await openAtHole();
  });
  afterEach(() => vscode.commands.executeCommand("workbench.action.revertAndCloseActiveEditor"));

  it("offers an item while the user types", async () => {
    const lineBefore = editor.selection.active.line;
    await type("item.");
    const typed = editor.document.lineAt(lineBefore).text;
    await acceptSuggestion(editor);
    const accepted = editor.document.lineAt(lineBefore).text;
    assert.ok(accepted.startsWith(typed) && accepted.length > typed.length, accepted);
  });

  it("gives a text to who asks for one, without a key being typed", async () => {
    await vscode.commands.executeCommand("tidepool.complete");
    await acceptSuggestion(editor);
    const accepted = editor.document.lineAt(editor.selection.active.line).text;
    assert.match(accepted, /total \+= \S/);
  });

  it("asks the engine nothing while it is switched off, and asks again when it is on", async () => {
    await type("item.");
    await acceptSuggestion(editor);
    await vscode.commands.executeCommand("tidepool.toggle");
    let before = Number.NaN;
    try {
      // Accepting a suggestion asks for the next one; that request has arrived by then.
      await sleep(QUIET_MS);
      before = (await engineState()).requests.accepted;
      await type("\nx = item.");
      await sleep(QUIET_MS);
      assert.equal((await engineState()).requests.accepted, before);
    } finally {
      await vscode.commands.executeCommand("tidepool.toggle");
    }
    await type("p");
    await eventually("a request reaches the engine", VISIBLE_MS, async () => {
      return (await engineState()).requests.accepted > before;
    });
  });

  it("completes again after the engine was killed", async () => {
    await type("item.");
    await acceptSuggestion(editor);
    const killed = enginePid();
    process.kill(killed, "SIGKILL");
    await eventually("another engine is ready", VISIBLE_MS, async () => {
      return enginePid() !== killed && (await engineState()).health.status === "ready";
    });
    await vscode.commands.executeCommand("workbench.action.revertAndCloseActiveEditor");
    const again = await openAtHole();
    await type("item.");
    await acceptSuggestion(again);
    assert.ok((await engineState()).requests.accepted > 0, "the new engine was asked nothing");
  });
});
