// The files that the current file imports, for the prompt.
import type { ExtraChunk } from "../../engine/protocol/api.ts";
import { candidatePaths } from "./candidatePaths.ts";
import { type AllowedFile, ContextGuard } from "./guard/contextGuard.ts";
import { importsOf, languageOf } from "./imports.ts";

/** Bytes of source text to a token, by the bundled vocabulary. */
const BYTES_PER_TOKEN = 3.5;
const MOST_FILES = 12;

/** Tokens for other files when the user sets nothing else. */
export const DEFAULT_CONTEXT_TOKENS = 1024;

interface Snippet {
  path: string;
  /** Lines from 1, both included. */
  startLine: number;
  endLine: number;
  reason: string;
}

export interface RepositoryContext {
  chunks: ExtraChunk[];
  snippets: Snippet[];
  /** Estimated. */
  tokens: number;
}

export interface ContextQuery {
  /** Absolute path of the workspace folder. */
  workspace: string;
  /** Path of the current file in it, with forward slashes. */
  filename: string;
  text: string;
  budgetTokens: number;
  /** What may be read; the workspace folder's own rules when missing. */
  guard?: ContextGuard;
}

interface Found extends AllowedFile {
  path: string;
  reason: string;
}

/** Heads of imported files, least recently changed first so that the engine's prefix cache lasts; at most the budget. */
export async function repositoryContext(query: ContextQuery): Promise<RepositoryContext> {
  const found = await findImports(query);
  found.sort((a, b) => a.changedMs - b.changedMs || (a.path < b.path ? -1 : 1));
  const context: RepositoryContext = { chunks: [], snippets: [], tokens: 0 };
  const share = query.budgetTokens / Math.max(1, found.length);
  for (const [i, { path, text, reason }] of found.entries()) {
    // What a short file leaves over is spread over those after it.
    const budget = Math.min(query.budgetTokens - context.tokens, share * (i + 1) - context.tokens);
    const head = headOf(text, budget - tokensOf(`#${path}\n\n`));
    if (head.lines === 0) continue;
    context.chunks.push({ filename: path, text: head.text });
    context.snippets.push({ path, startLine: 1, endLine: head.lines, reason });
    context.tokens += tokensOf(`#${path}\n${head.text}\n`);
  }
  return context;
}

function tokensOf(text: string): number {
  return Math.ceil(Buffer.byteLength(text) / BYTES_PER_TOKEN);
}

async function findImports(query: ContextQuery): Promise<Found[]> {
  const language = languageOf(query.filename);
  if (!language || query.budgetTokens <= 0) return [];
  const guard = query.guard ?? new ContextGuard({ root: query.workspace });
  const found = new Map<string, Found>();
  for (const { name, line } of importsOf(query.text, language)) {
    if (found.size === MOST_FILES) break;
    for (const path of candidatePaths(name, query.filename, language)) {
      if (found.has(path)) continue;
      const guarded = await guard.read(path);
      if (guarded.kind === "refused") continue;
      found.set(path, { ...guarded.file, path, reason: `imported in line ${line} as ${name}` });
      break;
    }
  }
  return [...found.values()];
}

function headOf(text: string, budgetTokens: number): { text: string; lines: number } {
  const lines = text.replaceAll("\r\n", "\n").replace(/\n+$/, "").split("\n");
  let bytes = 0;
  let count = 0;
  for (const line of lines) {
    bytes += Buffer.byteLength(line) + 1;
    if (bytes / BYTES_PER_TOKEN > budgetTokens) break;
    count++;
  }
  return text.trim() === ""
    ? { text: "", lines: 0 }
    : { text: lines.slice(0, count).join("\n"), lines: count };
}
