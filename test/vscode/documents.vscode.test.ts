// Every kind of document that an editor has: what is asked at a place in it, and what comes into it.
import assert from "node:assert/strict";
import * as vscode from "vscode";
import type { TestApi } from "../../src/extension.ts";
import {
  askedAfterTyping,
  openAt,
  openFile,
  requestWith,
  testApi,
  type,
  typeAtRate,
  uriOf,
  wordsFor,
  writeFile,
} from "./editing.ts";
import { eventually } from "./engineProbe.ts";

const SHOWN_MS = 20_000;
/** The editor itself needs its time for a file of 100 000 lines. */
const LARGE_MS = 90_000;
const KEYS_PER_SECOND = 12;

describe("documents", () => {
  let api: TestApi;
  before(async () => {
    api = await testApi();
  });
  afterEach(async () => {
    await vscode.commands.executeCommand("workbench.action.revertAndCloseActiveEditor");
    await vscode.commands.executeCommand("workbench.action.closeAllEditors");
  });

  const scenes = [
    {
      language: "TypeScript",
      other: "parts/ledger.ts",
      defines: "export function openLedger(owner: string): number {\n  return owner.length;\n}\n",
      extension: ".ts",
      text: 'import { openLedger } from "./parts/ledger";\n\nexport const first = ',
      wanted: "export function openLedger(owner: string): number {",
    },
    {
      language: "Python",
      other: "parts/harbour.py",
      defines: "class Harbour:\n    def moor_ship(self, ship):\n        return 0\n",
      extension: ".py",
      text: "from parts.harbour import Harbour\n\n\ndef run(harbour: Harbour):\n    return harbour",
      wanted: "    def moor_ship(self, ship):",
    },
    {
      language: "Go",
      other: "crates/crates.go",
      defines: "package crates\n\nfunc SealCrate(name string) error {\n\treturn nil\n}\n",
      extension: ".go",
      text: 'package main\n\nimport "example.com/shop/crates"\n\nfunc main() {\n\terr := crates',
      wanted: "func SealCrate(name string) error {",
    },
  ];
  for (const { language, other, defines, extension, text, wanted } of scenes) {
    it(`of several files: the prompt holds what ${language} needs of another`, async () => {
      await writeFile("go.mod", "module example.com/shop\n");
      await writeFile(other, defines);
      // The index learns of new files in its own time; new documents are asked about until it has.
      let last = "";
      let asked = 0;
      await eventually(`${wanted} is in a prompt`, SHOWN_MS, async () => {
        const filename = `asks${asked++}${extension}`;
        await openFile(filename, text);
        await type(extension === ".ts" ? "o" : ".");
        const { input_extra = [] } = await requestWith(
          api,
          "a request is made",
          (request) => request.filename === filename,
        );
        last = input_extra.map((chunk) => chunk.text).join("\n");
        return last.includes(wanted);
      }).catch((error: unknown) => {
        throw new Error(`${String(error)}; last context: ${last}`);
      });
    });
  }

  it("that are untitled are asked about under a name of their language", async () => {
    const document = await vscode.workspace.openTextDocument({
      language: "python",
      content: "def area(width, height):\n    return ",
    });
    await openAt(document);
    const { filename } = await askedAfterTyping(api, "k", (request) =>
      request.input_prefix.endsWith("    return k"),
    );
    assert.match(filename ?? "", /^Untitled-\d+\.py$/);
  });

  it("with CRLF are asked about with LF, and stay as they are", async () => {
    const line = "total_of_all_boxes = count(boxes)\r\n";
    const editor = await openFile("crlf.py", `${line}print(total_of_all_boxes)\r\n${line}print(`);
    await type("total_of_a");
    await eventually("a suggestion is taken", SHOWN_MS, async () => {
      await vscode.commands.executeCommand("editor.action.inlineSuggest.commit");
      return /print\(total_of_all_boxes[^\n]*$/.test(editor.document.getText());
    });
    const text = editor.document.getText();
    assert.equal(editor.document.eol, vscode.EndOfLine.CRLF);
    assert.doesNotMatch(text, /[^\r]\n/);
    assert.ok(!(api.lastRequest()?.input_prefix ?? "").includes("\r"));
  });

  it("that are cells of a notebook are asked about with the other cells around them", async () => {
    const cell = (value: string) =>
      new vscode.NotebookCellData(vscode.NotebookCellKind.Code, value, "python");
    const data = new vscode.NotebookData([
      cell("def moor(ship):\n    return ship"),
      new vscode.NotebookCellData(vscode.NotebookCellKind.Markup, "# Ships", "markdown"),
      cell("first = "),
      cell("print(first)"),
    ]);
    const notebook = await vscode.workspace.openNotebookDocument("jupyter-notebook", data);
    const shown = await vscode.window.showNotebookDocument(notebook);
    shown.selection = new vscode.NotebookRange(2, 3);
    await vscode.commands.executeCommand("notebook.cell.edit");
    const document = notebook.cellAt(2).document;
    await eventually("the cell has the focus", SHOWN_MS, () =>
      Promise.resolve(vscode.window.activeTextEditor?.document === document),
    );
    await vscode.commands.executeCommand("cursorBottom");
    const request = await askedAfterTyping(api, "k", ({ input_prefix }) =>
      input_prefix.endsWith("first = k"),
    );
    assert.equal(request.input_prefix, "def moor(ship):\n    return ship\nfirst = k");
    assert.equal(request.input_suffix, "\nprint(first)");
    assert.match(request.filename ?? "", /\.py$/);
  });

  it("are asked about as they would stand with the selected item of the suggest widget", async () => {
    const items = vscode.languages.registerCompletionItemProvider(
      { pattern: "**/widget.py" },
      { provideCompletionItems: () => [new vscode.CompletionItem("quartzite_zebra")] },
    );
    try {
      await openFile("widget.py", "x = ");
      await type("q");
      await vscode.commands.executeCommand("editor.action.triggerSuggest");
      await requestWith(api, "the selected item stands in a prompt", (request) =>
        request.input_prefix.endsWith("x = quartzite_zebra"),
      );
    } finally {
      items.dispose();
    }
  });

  it("of 100 000 lines are typed into without lag, and only lines near the cursor are sent", async function () {
    this.timeout(LARGE_MS);
    const lines = Array.from({ length: 100_000 }, (_, i) => `value_${i} = compute(${i}, other)\n`);
    await writeFile("large.py", lines.join(""));
    const document = await vscode.workspace.openTextDocument(uriOf("large.py"));
    assert.equal(document.lineCount, 100_001);
    const lineEnd = document.lineAt(49_999).range.end;
    const editor = await openAt(document, document.offsetAt(lineEnd));
    await type("\n");
    const offset = document.offsetAt(lineEnd) + 1;
    const text = "result = compute(other, 12) + 1\n";
    await vscode.commands.executeCommand("tidepool.toggle");
    const off = await typeAtRate(text, KEYS_PER_SECOND, 8).finally(() =>
      vscode.commands.executeCommand("tidepool.toggle"),
    );
    const on = await typeAtRate(text, KEYS_PER_SECOND, 8);
    if (this.test) this.test.title += `: ${wordsFor(on)}; switched off: ${wordsFor(off)}`;
    const typed = off.typed + on.typed;
    const start = editor.document.positionAt(offset);
    const end = editor.document.positionAt(offset + typed.length);
    assert.equal(editor.document.getText(new vscode.Range(start, end)), typed);
    // Where the editor alone is slower than the typist, keys queue, and a figure of ours would be that of the queue.
    const queuesByItself = off.p95Ms > 1000 / KEYS_PER_SECOND;
    assert.ok(queuesByItself || on.p95Ms < 3 * off.p95Ms + 100, this.test?.title);
    assert.ok(on.busy - off.busy < 0.05, this.test?.title);
    const { input_prefix, input_suffix } = await askedAfterTyping(
      api,
      "k",
      (request) => request.filename === "large.py",
    );
    assert.ok(input_prefix.length <= 12_000 && input_suffix.length <= 4_000);
    assert.match(input_prefix, /value_49999 = /);
  });
});
