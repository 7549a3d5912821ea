import assert from "node:assert/strict";
import * as vscode from "vscode";
import { engineState, eventually } from "./engineProbe.ts";

const INDEXED_MS = 20_000;

function uriOf(path: string): vscode.Uri {
  const folder = vscode.workspace.workspaceFolders?.[0]?.uri;
  assert.ok(folder !== undefined, "no workspace folder is open");
  return vscode.Uri.joinPath(folder, path);
}

const write = (path: string, text: string) =>
  vscode.workspace.fs.writeFile(uriOf(path), Buffer.from(text));

/** Opens a new file with the cursor at its end. */
async function openAtEnd(path: string, text: string): Promise<vscode.TextEditor> {
  await write(path, text);
  const document = await vscode.workspace.openTextDocument(uriOf(path));
  const editor = await vscode.window.showTextDocument(document, vscode.ViewColumn.One);
  const end = document.positionAt(text.length);
  editor.selection = new vscode.Selection(end, end);
  return editor;
}

/** What Show Context shows for the active editor. */
async function shownContext(): Promise<string> {
  await vscode.commands.executeCommand("tidepool.showContext");
  const shown = vscode.workspace.textDocuments.filter(
    ({ uri }) => uri.scheme === "tidepool-context",
  );
  return shown.map((document) => document.getText()).join("\n");
}

/** Shows the context until it holds `wanted`: the index is made in a thread, and changes on disk arrive in their own time. */
async function untilShown(editor: vscode.TextEditor, wanted: RegExp): Promise<void> {
  let last = "";
  const isThere = async () => {
    await vscode.window.showTextDocument(editor.document, vscode.ViewColumn.One);
    last = await shownContext();
    return wanted.test(last);
  };
  await eventually(`${wanted} is in the context`, INDEXED_MS, isThere).catch((error: unknown) => {
    throw new Error(`${String(error)}; last seen: ${last}`);
  });
}

describe("other files", () => {
  before(async () => {
    await vscode.extensions.getExtension("tidepool.tidepool")?.activate();
    await write(
      "shop/stock.py",
      "class Stock:\n    def count_boxes(self, shelf):\n        return 0\n",
    );
    await write(
      "boxes/boxes.go",
      "package boxes\n\nfunc OpenBox(name string) error {\n\treturn nil\n}\n",
    );
    await write("go.mod", "module example.com/shop\n");
  });
  afterEach(() => vscode.commands.executeCommand("workbench.action.closeAllEditors"));

  const scenes = [
    {
      language: "TypeScript",
      path: "need.ts",
      text: 'import { addMoney, type Money } from "./money";\n\nexport const sum = (a: Money) => ',
      wanted:
        /#money\.ts:6-6 {2}\(\w+\)\nexport function addMoney\(left: Money, right: Money\): Money \{/,
    },
    {
      language: "Python",
      path: "need.py",
      text: "from shop.stock import Stock\n\n\ndef count(stock: Stock):\n    return stock.",
      wanted: /#shop\/stock\.py:2-2 {2}\(\w+\)\n {4}def count_boxes\(self, shelf\):/,
    },
    {
      language: "Go",
      path: "need.go",
      text: 'package main\n\nimport "example.com/shop/boxes"\n\nfunc main() {\n\terr := boxes.',
      wanted: /#boxes\/boxes\.go:3-3 {2}\(\w+\)\nfunc OpenBox\(name string\) error \{/,
    },
  ];
  for (const { language, path, text, wanted } of scenes) {
    it(`are shown with place and reason where ${language} needs them`, async () => {
      await untilShown(await openAtEnd(path, text), wanted);
    });
  }

  it("reach the engine before anything is typed", async () => {
    await openAtEnd("ahead.ts", 'import { addMoney } from "./money";\n\nexport const twice = ');
    await eventually("other files are pinned", INDEXED_MS, async () => {
      return (await engineState()).kv.tokensPinned > 0;
    });
  });

  it("are seen as they stand in the editor, saved or not", async () => {
    const other = await openAtEnd("rates.ts", "export const rate = 1;\n");
    const text = 'import { convertRate } from "./rates";\n\nexport const now = ';
    const editor = await openAtEnd("user.ts", text);
    await vscode.window.showTextDocument(other.document, vscode.ViewColumn.One);
    const edit = new vscode.WorkspaceEdit();
    edit.insert(
      other.document.uri,
      new vscode.Position(1, 0),
      "export function convertRate(by: number) {}\n",
    );
    await vscode.workspace.applyEdit(edit);
    await untilShown(
      editor,
      /#rates\.ts:1-2 .*\nexport const rate = 1;\nexport function convertRate\(by: number\) \{\}/,
    );
    await vscode.window.showTextDocument(other.document);
    await vscode.commands.executeCommand("workbench.action.files.revert");
  });

  it("are followed on disk", async () => {
    const text = 'import { lateComer } from "./late";\n\nexport const found = ';
    const editor = await openAtEnd("early.ts", text);
    await untilShown(editor, /Context for early\.ts:3/);
    assert.doesNotMatch(await shownContext(), /function lateComer/);
    await write("late.ts", "export function lateComer(): void {}\n");
    await untilShown(editor, /#late\.ts:1-1 .*\nexport function lateComer\(\): void \{\}/);
  });
});
