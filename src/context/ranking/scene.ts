// What stands around the cursor, in terms of the index: the names near it, the imports, and what the line asks for.
// Text after the cursor on its own line is not looked at: it is what completion is about to write.

import { resolveImport } from "../importResolution.ts";
import { type ImportStatement, importStatements } from "../importStatements.ts";
import { type ScannedNames, scanNames } from "../nameScan.ts";
import { namespaceOf } from "../namespace.ts";
import type { IndexedFile, RepositoryIndex } from "../repositoryIndex.ts";
import type { ContextCursor } from "../snippet.ts";
import { languageOf, type SyntaxLanguage } from "../syntax.ts";
import { type Place, placeBefore } from "./place.ts";
import { scratchOf } from "./scratch.ts";

export interface Scene {
  index: RepositoryIndex;
  path: string;
  /** This file as the index knows it. */
  self: IndexedFile | undefined;
  /** The names of this file, as far as it is looked at. */
  scanned: ScannedNames;
  /** By name: 1 where it stands in this file but the index does not know it yet, -1 where it is gone. */
  news: Float32Array;
  language: SyntaxLanguage | undefined;
  /** Names of this file outside of its imports, by the weight of the nearest place: 1 at the cursor, falling. */
  near: Map<number, number>;
  /** Names in import statements. */
  imported: Set<number>;
  importedFiles: Map<IndexedFile, ImportStatement>;
  /** Names before the cursor on its line, the last first; without the one being typed. */
  before: number[];
  /** The name being typed; empty between names. */
  typed: string;
  /** The cursor stands after `.`, `->` or `::`. */
  afterDot: boolean;
  /** What the text before the cursor asks for. */
  place: Place;
  /** Names on the lines of this file that declare types: the types and what they inherit from. */
  bases: Set<number>;
  /** Files that this one sees without an import. */
  siblings: Set<IndexedFile>;
  /** Lines of the file, the cursor's line cut at the cursor. */
  cursorLine: number;
}

/** Weight falls to half at this many lines from the cursor. */
const HALF_WEIGHT_LINES = 6;
/** Files read further than this from the cursor are cut. UTF-16 units. */
const SEEN_UNITS = 120_000;

export function sceneOf(index: RepositoryIndex, cursor: ContextCursor): Scene {
  const { path } = cursor;
  const language = languageOf(path);
  const { text, offset, firstLine } = visibleText(cursor);
  const statements = language ? importStatements(cursor.text, language.imports) : [];
  const scanned = scanNames(text, index.names);
  const cursorLine = newlinesIn(text.slice(0, offset));
  const lineStart = text.lastIndexOf("\n", offset - 1) + 1;
  const line = text.slice(lineStart, offset);
  const typed = /[\p{L}_$][\p{L}\d_$]*$/u.exec(line)?.[0] ?? "";
  const rest = line.slice(0, line.length - typed.length);
  const scene: Scene = {
    index,
    path,
    self: index.files.get(path),
    scanned,
    news: newsOf(index, path, scanned),
    language,
    near: new Map(),
    imported: new Set(),
    importedFiles: new Map(),
    before: namesOf(index, rest).reverse(),
    typed,
    afterDot: /(?:\.|->|::)\s*$/.test(rest),
    place: placeBefore(rest),
    bases: basesOf(index, text),
    siblings: siblingsOf(index, path, cursor.text, language),
    cursorLine,
  };
  const importLines = new Set<number>();
  for (const statement of statements) readImport(scene, statement, importLines, firstLine);
  if (typed !== "") endImportedName(scene, line);
  collectNear(scene, scanned, importLines);
  return scene;
}

/** A name at the cursor that an import brings is whole: what is looked for stands behind it, most often behind a dot. */
function endImportedName(scene: Scene, line: string): void {
  const name = scene.index.names.add(scene.typed);
  if (!scene.imported.has(name)) return;
  scene.before.unshift(name);
  scene.typed = "";
  scene.afterDot = true;
  scene.place = placeBefore(`${line}.`);
}

/** Files in which a name stands, this one as it now is among them. */
export function filesWith({ index, news }: Scene, name: number): number {
  return (index.postings.get(name)?.length ?? 0) + (news[name] ?? 0);
}

function newsOf(index: RepositoryIndex, path: string, { ids }: ScannedNames): Float32Array {
  const news = scratchOf(index).floats("news", index.names.size);
  for (const name of ids) news[name] = 1;
  for (const name of index.files.get(path)?.distinct ?? []) news[name] = (news[name] ?? 0) - 1;
  return news;
}

/** The text without the rest of the cursor's line, and without what is far away; `firstLine` of the file is its first. */
function visibleText({ text, offset }: ContextCursor) {
  const start = offset > SEEN_UNITS ? text.lastIndexOf("\n", offset - SEEN_UNITS) + 1 : 0;
  const lineEnd = text.indexOf("\n", offset);
  const after = lineEnd < 0 ? "" : text.slice(lineEnd, lineEnd + SEEN_UNITS);
  return {
    text: text.slice(start, offset) + after,
    offset: offset - start,
    firstLine: start === 0 ? 0 : newlinesIn(text.slice(0, start)),
  };
}

function newlinesIn(text: string): number {
  let count = 0;
  for (let i = text.indexOf("\n"); i >= 0; i = text.indexOf("\n", i + 1)) count++;
  return count;
}

const TYPE_LINE = /^[^\n"'*/#]*\b(?:class|struct|interface|impl|trait|extends|implements)\b.*$/gm;
const MOST_TYPE_LINES = 60;

function basesOf(index: RepositoryIndex, text: string): Set<number> {
  const bases = new Set<number>();
  for (const line of (text.match(TYPE_LINE) ?? []).slice(0, MOST_TYPE_LINES))
    for (const name of namesOf(index, line)) if (index.members.has(name)) bases.add(name);
  return bases;
}

function namesOf(index: RepositoryIndex, text: string): number[] {
  return [...scanNames(text, index.names).ids];
}

function readImport(
  scene: Scene,
  statement: ImportStatement,
  lines: Set<number>,
  firstLine: number,
): void {
  const { index, path, language, importedFiles, imported } = scene;
  for (let line = statement.line; line <= statement.endLine; line++) lines.add(line - firstLine);
  for (const name of statement.names) imported.add(index.names.add(name));
  if (!language) return;
  for (const file of resolveImport(index, path, language.imports, statement.source))
    if (!importedFiles.has(file)) importedFiles.set(file, statement);
}

function collectNear(
  scene: Scene,
  { ids, starts }: { ids: Uint32Array; starts: Uint32Array },
  importLines: ReadonlySet<number>,
): void {
  for (let line = 0; line + 1 < starts.length; line++) {
    if (importLines.has(line)) continue;
    const distance = Math.abs(line - scene.cursorLine) + (line > scene.cursorLine ? 1 : 0);
    const weight = HALF_WEIGHT_LINES / (HALF_WEIGHT_LINES + distance);
    for (let i = starts[line] ?? 0; i < (starts[line + 1] ?? 0); i++) {
      const id = ids[i] ?? 0;
      if ((scene.near.get(id) ?? 0) < weight) scene.near.set(id, weight);
    }
  }
}

/** Files of the same folder or namespace, when the language shows them without an import. */
function siblingsOf(
  index: RepositoryIndex,
  path: string,
  text: string,
  language: SyntaxLanguage | undefined,
): Set<IndexedFile> {
  const found = new Set<IndexedFile>();
  if (!language || language.visible === "nothing") return found;
  const folder = path.includes("/") ? path.slice(0, path.lastIndexOf("/")) : ".";
  const namespace = namespaceOf(text, language.imports);
  const add = (files: Iterable<IndexedFile> | undefined) => {
    for (const file of files ?? [])
      if (file.path !== path && file.language?.id === language.id) found.add(file);
  };
  if (language.visible === "folder") add(index.folders.get(folder));
  if (namespace) add(index.namespaces.get(namespace));
  // An inner namespace sees those around it.
  if (language.imports === "csharp")
    for (let at = namespace.lastIndexOf("."); at > 0; at = namespace.lastIndexOf(".", at - 1))
      add(index.namespaces.get(namespace.slice(0, at)));
  return found;
}
