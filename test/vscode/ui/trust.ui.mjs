// A workspace whose authors are not trusted: the open file is completed, and nothing else is read.
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import path from "node:path";
import { after, before, describe, it } from "node:test";
import { openSession } from "./session.mjs";

const QUIET_MS = 1500;

describe("a workspace that is not trusted, in a real VS Code", () => {
  let session;
  let editor;

  before(async () => {
    session = await openSession({ asksForTrust: true });
    editor = session.editor;
    await editor.refuseTrust();
    // All parts of the editor are made while the engine starts.
    await editor.openFile("report.py");
    await editor.waitUntilReady();
  });
  after(async () => {
    await editor?.shot("last");
    await session?.stop();
  });

  it("is completed from the open file alone, and the trace says so", async () => {
    const load = "def load(path, mode):\n    handle = open(path, mode)\n    return handle\n";
    const text = `${load}\n\ndef save(path, mode):\n`;
    writeFileSync(path.join(session.workspace, "words.py"), text);
    await editor.openFile("words.py");
    await editor.goTo(text.split("\n").length, 1);
    await editor.type("    handle = ");
    assert.match(await editor.ghostText(), /open\(path/);
    await editor.command("Tidepool: Why No Suggestion?");
    await editor.waitForTab("Why No Suggestion.md");
    await editor.pause(QUIET_MS);
    await editor.shot("not-trusted");
    // Long lines are drawn as several.
    const seen = (await editor.textNow()).replace(/\s+/g, " ");
    assert.match(seen, /not trusted: no other file is read/);
  });
});
