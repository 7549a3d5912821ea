import { basename } from "node:path";
import * as vscode from "vscode";
import { type DocumentSnapshot, linesAround } from "../completion/documentSnapshot.ts";
import { extensionOf } from "./languageExtensions.ts";

const CELL_SCHEME = "vscode-notebook-cell";

/**
 * The document as it would stand with the suggest widget's selected item inserted, when there is one. Of a large document
 * only the lines around the cursor are copied; a notebook's cell stands between the other cells of its language.
 */
export function snapshotOf(
  document: vscode.TextDocument,
  position: vscode.Position,
  selected?: vscode.SelectedCompletionInfo,
): DocumentSnapshot {
  const { start, end } = linesAround(position.line);
  const text = document.getText(new vscode.Range(start, 0, end, 0));
  const from = document.offsetAt(new vscode.Position(start, 0));
  const offset = document.offsetAt(position) - from;
  const { before, after } = cellsAround(document);
  const filename = filenameOf(document);
  if (!selected) return { filename, text: before + text + after, offset: before.length + offset };
  const selectionStart = document.offsetAt(selected.range.start) - from;
  const selectionEnd = document.offsetAt(selected.range.end) - from;
  const head = before + text.slice(0, selectionStart) + selected.text;
  return { filename, text: head + text.slice(selectionEnd) + after, offset: head.length };
}

/** Where a document lies: its folder, and its path in it with forward slashes. */
export interface WorkspacePlace {
  folder: vscode.WorkspaceFolder;
  filename: string;
}

/** The place of a document that is a file of an open folder. */
export function placeOf(document: vscode.TextDocument): WorkspacePlace | undefined {
  const folder = vscode.workspace.getWorkspaceFolder(document.uri);
  if (!folder || document.uri.scheme !== "file") return undefined;
  return { folder, filename: vscode.workspace.asRelativePath(document.uri, false) };
}

/** By its extension the language is known, so a document without one gets that of its language. */
function filenameOf(document: vscode.TextDocument): string {
  const place = placeOf(document);
  if (place) return place.filename;
  const name = basename(document.uri.path);
  const extension = extensionOf(document.languageId);
  if (extension === undefined) return name;
  if (document.uri.scheme === CELL_SCHEME) return name.replace(/\.\w+$/, "") + extension;
  return document.isUntitled && !name.includes(".") ? name + extension : name;
}

/** The code of a notebook before and behind a cell, in the cell's language; empty for other documents. */
function cellsAround(document: vscode.TextDocument): { before: string; after: string } {
  const cells = cellsWith(document).filter(
    (cell) => cell.document.languageId === document.languageId,
  );
  const own = cells.findIndex((cell) => cell.document === document);
  const textOf = (cell: vscode.NotebookCell) => cell.document.getText();
  return {
    before: cells
      .slice(0, Math.max(0, own))
      .map((cell) => `${textOf(cell)}\n`)
      .join(""),
    after:
      own < 0
        ? ""
        : cells
            .slice(own + 1)
            .map((cell) => `\n${textOf(cell)}`)
            .join(""),
  };
}

function cellsWith(document: vscode.TextDocument): readonly vscode.NotebookCell[] {
  if (document.uri.scheme !== CELL_SCHEME) return [];
  const notebook = vscode.workspace.notebookDocuments.find(
    ({ uri }) => uri.path === document.uri.path,
  );
  return notebook?.getCells() ?? [];
}
