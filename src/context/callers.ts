// Who calls the function that the cursor stands in: lines of other files that name it, found by the index.
import { nearness } from "./importResolution.ts";
import type { IndexedFile, RepositoryIndex } from "./repositoryIndex.ts";
import type { ContextCursor } from "./snippet.ts";

/** A place in another file; `line` from 0. */
export interface CallSite {
  path: string;
  line: number;
}

/** Lines above the cursor that are looked at for the head of a function. */
const MOST_LINES_UP = 400;
/** Names with more definitions, or in more files, tell nothing about who is called. */
const MOST_DEFINITIONS = 3;
const MOST_POSTINGS = 100;
const NAME = /[\p{L}_$][\p{L}\d_$]*/gu;

/** The calls that lie nearest, at most one of each file; product code before tests. */
export function callSites(index: RepositoryIndex, cursor: ContextCursor, most: number): CallSite[] {
  const name = enclosingFunction(index, cursor);
  if (name === undefined) return [];
  const files = (index.postings.get(name) ?? []).filter(({ path }) => path !== cursor.path);
  if (files.length > MOST_POSTINGS) return [];
  const scored = files.map((file) => ({
    file,
    score: nearness(file.path, cursor.path) - (file.isTest ? 100 : 0),
  }));
  scored.sort((a, b) => b.score - a.score || (a.file.path < b.file.path ? -1 : 1));
  const sites: CallSite[] = [];
  for (const { file } of scored) {
    const line = callIn(file, name);
    if (line !== undefined) sites.push({ path: file.path, line });
    if (sites.length === most) break;
  }
  return sites;
}

/** Name of the innermost function around the cursor that the index knows of this file. */
export function enclosingFunction(
  index: RepositoryIndex,
  { path, text, offset }: ContextCursor,
): number | undefined {
  const lines = text.slice(0, offset).split("\n").slice(-MOST_LINES_UP);
  const last = lines.pop() ?? "";
  let indent = last.length - last.trimStart().length;
  for (const line of lines.reverse()) {
    const code = line.trimStart();
    const own = line.length - code.length;
    if (code === "" || own >= indent) continue;
    // What only closes or opens brackets belongs to a head above it.
    indent = /^[)\]{]/.test(code) ? own + 1 : own;
    for (const [word] of line.matchAll(NAME)) {
      const name = index.names.find(word);
      if (name !== undefined && isFunctionOf(index, path, name)) return name;
    }
  }
  return undefined;
}

function isFunctionOf(index: RepositoryIndex, path: string, name: number): boolean {
  const definitions = index.definitions.get(name) ?? [];
  if (definitions.length > MOST_DEFINITIONS) return false;
  return definitions.some(
    ({ file, kind }) => file.path === path && (kind === "function" || kind === "method"),
  );
}

/** The first line that names it and neither imports nor defines it. */
function callIn({ ids, starts, imports, definitions }: IndexedFile, name: number) {
  let line = 0;
  for (let i = ids.indexOf(name); i >= 0; i = ids.indexOf(name, i + 1)) {
    while ((starts[line + 1] ?? 0) <= i) line++;
    const isImport = imports.some((at) => at.line <= line && line <= at.endLine);
    const isDefinition = definitions.some((at) => at.name === name && at.line === line);
    if (!isImport && !isDefinition) return line;
  }
  return undefined;
}
