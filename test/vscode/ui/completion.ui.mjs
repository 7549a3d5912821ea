// The main job, as a person sees it: ghost text from the bundled model, Tab, off, a killed engine, and the CLI beside it.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { after, before, describe, it } from "node:test";
import { inRoot } from "../../../scripts/lib/paths.mjs";
import { acceptedRequests, enginePid, engineState, killEngine } from "./engineState.mjs";
import { openSession } from "./session.mjs";

// Longer than any debounce: what has not been asked for by then never will be.
const QUIET_MS = 1500;

const manifest = JSON.parse(readFileSync(inRoot("package.json"), "utf8"));

/** Title of a command as the palette shows it. */
function titleOf(id) {
  const command = manifest.contributes.commands.find((entry) => entry.command === id);
  assert.ok(command !== undefined, `package.json contributes no command ${id}`);
  return command.category === undefined ? command.title : `${command.category}: ${command.title}`;
}

describe("the packaged extension in a real VS Code", () => {
  let session;
  let editor;

  before(async () => {
    session = await openSession();
    editor = session.editor;
    // All parts of the editor are made while the engine starts.
    await editor.openFile("report.py");
    await editor.waitUntilReady();
  });
  after(async () => {
    await editor?.shot("last");
    await session?.stop();
  });

  const read = (file) => readFileSync(path.join(session.workspace, file), "utf8");

  /** Types `text` behind the last `marker` of a saved file; returns content and cursor as they then are. */
  async function typeAfter(file, marker, text) {
    await editor.openFile(file);
    const content = read(file);
    const offset = content.lastIndexOf(marker) + marker.length;
    assert.ok(content.includes(marker), `${file} holds no "${marker}"`);
    const lines = content.slice(0, offset).split("\n");
    await editor.goTo(lines.length, lines.at(-1).length + 1);
    await editor.type(text);
    return {
      content: content.slice(0, offset) + text + content.slice(offset),
      cursor: offset + text.length,
    };
  }

  /** Accepts with Tab, saves, and asserts that exactly `ghost` came in at the cursor. */
  async function assertTabInserts(file, ghost, { content, cursor }) {
    await editor.acceptWithTab();
    await editor.save();
    assert.equal(read(file), content.slice(0, cursor) + ghost + content.slice(cursor));
  }

  /** What the command-line client answers for a cursor of the saved file. */
  function askCli(file, { content, cursor }) {
    const lines = content.slice(0, cursor).split("\n");
    const place = `${path.join(session.workspace, file)}:${lines.length}:${lines.at(-1).length + 1}`;
    const args = [session.cli, "complete", place, "--workspace", session.workspace, "--json"];
    const env = {
      ...process.env,
      TIDEPOOL_RUNTIME_DIR: session.runtimeDir,
      XDG_CACHE_HOME: path.join(path.dirname(session.workspace), "cache"),
    };
    const result = spawnSync(process.execPath, args, { encoding: "utf8", env });
    assert.equal(result.status, 0, result.stderr);
    return JSON.parse(result.stdout).text;
  }

  const scenes = [
    {
      language: "Python",
      file: "inventory.py",
      marker: "            total += ",
      typed: "item.",
    },
    // What the file itself says elsewhere, so this does not depend on how good the model is.
    { language: "TypeScript", file: "cart.ts", marker: "let count = 0;", typed: " this.lines." },
    { language: "Go", file: "queue.go", marker: "return Job{}, ", typed: "Err" },
  ];
  for (const { language, file, marker, typed } of scenes) {
    it(`shows ghost text while ${language} is typed, and Tab inserts exactly that text`, async () => {
      const place = await typeAfter(file, marker, typed);
      const ghost = await editor.ghostText();
      await editor.shot(`ghost-${language}`);
      assert.match(ghost, /\S/);
      await assertTabInserts(file, ghost, place);
      await editor.shot(`accepted-${language}`);
    });
  }

  it("shows several lines for an empty body, and Tab inserts exactly those", async () => {
    // The file itself says how such a body begins, so this does not depend on how good the model is.
    const body = "    try:\n        step()\n    except OSError:\n        pass\n";
    const first = `def first(step, wait, limit):\n${body}\n\n`;
    writeFileSync(path.join(session.workspace, "retry.py"), first);
    const place = await typeAfter("retry.py", first, "def second(step, wait, limit):\n");
    // The editor indents the new line by itself.
    const content = `${place.content.slice(0, place.cursor)}    ${place.content.slice(place.cursor)}`;
    const ghost = await editor.ghostText();
    await editor.shot("ghost-several-lines");
    assert.match(ghost, /\S[\s\S]*\n[\s\S]*\S/);
    await assertTabInserts("retry.py", ghost, { content, cursor: place.cursor + 4 });
  });

  it("is taken word by word: the rest stays, and Tab takes it", async () => {
    const head = "def load(path, mode):\n    handle = open(path, mode)\n    return handle\n\n\n";
    writeFileSync(path.join(session.workspace, "words.py"), `${head}def save(path, mode):\n`);
    const place = await typeAfter("words.py", "def save(path, mode):\n", "    handle = ");
    const ghost = await editor.ghostText();
    await editor.press("Control+ArrowRight");
    const rest = await editor.ghostText();
    await editor.shot("ghost-behind-a-taken-word");
    assert.ok(rest !== ghost && ghost.endsWith(rest), `"${rest}" is no rest of "${ghost}"`);
    await assertTabInserts("words.py", ghost, place);
  });

  it("offers other texts to who asks for them, and Tab takes the one that is seen", async () => {
    const place = await typeAfter("words.py", "return handle\n", "\nfor name in ");
    await editor.press("Alt+Backslash");
    const first = await editor.ghostText();
    await editor.press("Alt+BracketRight");
    const other = await editor.ghostTextOtherThan(first);
    await editor.shot("ghost-alternative");
    await assertTabInserts("words.py", other, place);
  });

  it("says the same as the command line for the same cursor", async () => {
    const place = await typeAfter(
      "money.ts",
      "currency: left.currency };\n}\n",
      "\nexport function subtract",
    );
    const ghost = await editor.ghostText();
    await editor.shot("ghost-same-as-cli");
    await editor.save();
    assert.equal(ghost, askCli("money.ts", place));
  });

  it("comes from the bundled model of the installed package", async () => {
    const { health } = await engineState(session.runtimeDir);
    const expected = path.join(path.dirname(path.dirname(session.cli)), "engine", "models");
    assert.equal(path.dirname(health.model?.path ?? ""), expected);
  });

  it("shows nothing and asks the engine nothing while it is switched off", async () => {
    await editor.command(titleOf("tidepool.toggle"));
    // What was asked for before the switch has arrived by then.
    await editor.pause(QUIET_MS);
    const accepted = await acceptedRequests(session.runtimeDir);
    await typeAfter("queue.go", "q.jobs = append(q.jobs, job)", "\nreturn q.");
    await editor.pause(QUIET_MS);
    await editor.shot("switched-off");
    assert.equal(await editor.ghostTextNow(), "");
    assert.equal(await acceptedRequests(session.runtimeDir), accepted);
    await editor.command(titleOf("tidepool.toggle"));
    await editor.waitUntilReady();
  });

  it("completes again after the engine was killed", async () => {
    const killed = await killEngine(session.runtimeDir);
    await editor.waitUntilReady();
    await typeAfter("report.py", "inventory = Inventory()", "\nfor item in ");
    assert.match(await editor.ghostText(), /\S/);
    await editor.shot("after-a-killed-engine");
    assert.notEqual(enginePid(session.runtimeDir), killed);
    assert.ok((await acceptedRequests(session.runtimeDir)) > 0, "the new engine was asked nothing");
  });
});
