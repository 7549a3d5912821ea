import { type PackedFile, pack } from "./pack.ts";
import { candidatesOf } from "./ranking/candidates.ts";
import { sceneOf } from "./ranking/scene.ts";
import type { RepositoryIndex } from "./repositoryIndex.ts";
import {
  bytesOfTokens,
  type ContextCursor,
  headerOf,
  type Retrieval,
  type Snippet,
  tokensOfBytes,
} from "./snippet.ts";

/** The lines of other files that the code at the cursor most likely needs, within `budgetTokens`. */
export function retrieve(
  index: RepositoryIndex,
  cursor: ContextCursor,
  budgetTokens: number,
): Retrieval {
  const started = performance.now();
  const candidates = candidatesOf(sceneOf(index, cursor));
  const files = pack(candidates, bytesOfTokens(budgetTokens));
  files.sort((a, b) => (a.file.path < b.file.path ? -1 : 1));
  const snippets = files.flatMap(snippetsOf);
  const context = render(snippets);
  const tokens = tokensOfBytes(Buffer.byteLength(context));
  return { snippets, context, tokens, ms: performance.now() - started };
}

function snippetsOf({ file, lines }: PackedFile): Snippet[] {
  const snippets: Snippet[] = [];
  for (const { line, candidate } of lines) {
    const last = snippets.at(-1);
    const { text } = candidate.definition;
    if (last && last.endLine === line && last.reason === candidate.reason) {
      last.endLine++;
      last.text += `\n${text}`;
    } else
      snippets.push({
        path: file.path,
        startLine: line + 1,
        endLine: line + 1,
        text,
        reason: candidate.reason,
      });
  }
  return snippets;
}

function render(snippets: readonly Snippet[]): string {
  let path = "";
  let text = "";
  for (const snippet of snippets) {
    if (snippet.path !== path) text += headerOf(snippet.path);
    path = snippet.path;
    text += `${snippet.text}\n`;
  }
  return text;
}
