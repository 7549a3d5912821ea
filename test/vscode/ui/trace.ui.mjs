// What a person sees who asks why there is no suggestion, and that Tab indents where none is seen.
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { after, before, describe, it } from "node:test";
import { openSession } from "./session.mjs";

const QUIET_MS = 1500;

describe("why no suggestion, in a real VS Code", () => {
  let session;
  let editor;

  before(async () => {
    session = await openSession();
    editor = session.editor;
    await editor.waitUntilReady();
  });
  after(async () => {
    await editor?.shot("last");
    await session?.stop();
  });

  const fileOf = (name) => path.join(session.workspace, name);

  it("Tab indents where nothing of a suggestion is seen", async () => {
    writeFileSync(fileOf("blank.py"), "def first():\n    pass\n\n\ndef second():\n\n");
    await editor.openFile("blank.py");
    await editor.goTo(6, 1);
    await editor.pause(QUIET_MS);
    await editor.press("Escape");
    assert.equal(await editor.ghostTextNow(), "");
    await editor.press("Tab");
    await editor.save();
    assert.match(readFileSync(fileOf("blank.py"), "utf8"), /def second\(\):\n {4}\n/);
  });

  it("the status bar says the last outcome in words, and the command opens the trace beside the code", async () => {
    await editor.openFile("queue.go");
    await editor.goTo(1, 4);
    await editor.type("q");
    await editor.pause(QUIET_MS);
    const tooltip = await editor.statusTooltip();
    await editor.shot("status-tooltip");
    assert.match(tooltip, /middle of code/);
    assert.match(tooltip, /Why no suggestion\?/);
    await editor.command("Tidepool: Why No Suggestion?");
    await editor.waitForTab("Why No Suggestion.md");
    await editor.pause(QUIET_MS);
    await editor.shot("why-no-suggestion");
  });
});
