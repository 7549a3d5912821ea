import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { basename, dirname, join, relative, resolve, sep } from "node:path";
import { errorText } from "../base/errorText.ts";
import type { DocumentSnapshot } from "../completion/documentSnapshot.ts";
import { ContextGuard } from "../context/guard/contextGuard.ts";
import { UsageError } from "./cliError.ts";

/** A place in a file; line and column count from 1, columns in UTF-16 units. */
export interface Location {
  file: string;
  line: number;
  column: number;
}

/** Reads `FILE:LINE:COL`. Throws UsageError when it has another form. */
export function parseLocation(text: string): Location {
  const match = /^(.+):(\d+):(\d+)$/s.exec(text);
  const [, file, line, column] = match ?? [];
  if (file === undefined || Number(line) < 1 || Number(column) < 1) {
    throw new UsageError(`expected FILE:LINE:COL with line and column from 1, found ${text}`);
  }
  return { file, line: Number(line), column: Number(column) };
}

/** Reads a whole number of at least `least`. Throws UsageError naming `option`. */
export function parseCount(text: string, option: string, least: number): number {
  if (!/^\d{1,9}$/.test(text) || Number(text) < least) {
    throw new UsageError(
      `expected a whole number of at least ${least} for ${option}, found ${text}`,
    );
  }
  return Number(text);
}

export interface OpenedDocument {
  snapshot: DocumentSnapshot;
  /** Absolute path of the workspace; undefined when the file lies outside of it. */
  workspace: string | undefined;
  /** Of the workspace, else of the file's own folder. */
  guard: ContextGuard;
}

/** Reads the file and finds its workspace: `workspace`, else the nearest folder with `.git`, else the file's own. */
export async function openDocument(
  location: Location,
  workspace?: string,
): Promise<OpenedDocument> {
  const path = resolve(location.file);
  const text = await readSource(path);
  const root = workspace === undefined ? workspaceOf(path) : resolve(workspace);
  const inside = relative(root, path).split(sep).join("/");
  const outside = inside.startsWith("../") || resolve(inside) === inside;
  return {
    snapshot: {
      filename: outside ? basename(path) : inside,
      text,
      offset: offsetOf(text, location),
    },
    workspace: outside ? undefined : root,
    guard: new ContextGuard({ root: outside ? dirname(path) : root }),
  };
}

async function readSource(path: string): Promise<string> {
  const bytes = await readFile(path).catch((error: unknown) => {
    throw new Error(`cannot read ${path}: ${errorText(error)}`);
  });
  if (bytes.includes(0)) throw new Error(`expected text in ${path}, found binary data`);
  return bytes.toString("utf8");
}

function workspaceOf(path: string): string {
  const own = dirname(path);
  for (let folder = own; ; folder = dirname(folder)) {
    if (existsSync(join(folder, ".git"))) return folder;
    if (folder === dirname(folder)) return own;
  }
}

/** Throws when the document has no such line or column. */
export function offsetOf(text: string, { file, line, column }: Location): number {
  const lines = text.split("\n");
  const wanted = lines[line - 1];
  if (wanted === undefined)
    throw new Error(`expected line 1 to ${lines.length} of ${file}, found ${line}`);
  const length = wanted.replace(/\r$/, "").length;
  if (column > length + 1) {
    throw new Error(
      `expected column 1 to ${length + 1} in line ${line} of ${file}, found ${column}`,
    );
  }
  return lines.slice(0, line - 1).reduce((sum, before) => sum + before.length + 1, 0) + column - 1;
}
