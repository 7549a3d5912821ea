import assert from "node:assert/strict";
import * as vscode from "vscode";

const ID = "tidepool.tidepool";

interface Manifest {
  contributes: { commands: { command: string }[] };
}

describe("activation", () => {
  it("happens by itself once VS Code has started", async () => {
    const extension = vscode.extensions.getExtension(ID);
    assert.ok(extension !== undefined, `${ID} is not installed`);
    await extension.activate();
    assert.equal(extension.isActive, true);
  });

  it("registers every command that package.json contributes", async () => {
    const manifest = vscode.extensions.getExtension(ID)?.packageJSON as Manifest;
    const contributed = manifest.contributes.commands.map((entry) => entry.command);
    assert.ok(contributed.length > 0);
    const registered = new Set(await vscode.commands.getCommands(true));
    const missing = contributed.filter((command) => !registered.has(command));
    assert.deepEqual(missing, []);
  });
});
