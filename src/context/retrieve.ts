import { type PackedFile, pack } from "./pack.ts";
import { sizeOf } from "./passages.ts";
import { candidatesOf } from "./ranking/candidates.ts";
import { sceneOf } from "./ranking/scene.ts";
import type { Definition, RepositoryIndex } from "./repositoryIndex.ts";
import {
  bytesOfTokens,
  type ContextCursor,
  headerOf,
  type Retrieval,
  type Snippet,
  tokensOfBytes,
} from "./snippet.ts";

/**
 * The lines of other files that the code at the cursor most likely needs, within `budgetTokens`. Definitions stand
 * first, in the order of their files' paths; `passages`, which change as the user moves, stand behind them.
 */
export function retrieve(
  index: RepositoryIndex,
  cursor: ContextCursor,
  budgetTokens: number,
  passages: readonly Snippet[] = [],
): Retrieval {
  const started = performance.now();
  const candidates = candidatesOf(sceneOf(index, cursor)).filter(
    ({ definition }) => !passages.some((passage) => covers(passage, definition)),
  );
  const files = pack(candidates, bytesOfTokens(budgetTokens) - sizeOf(passages));
  files.sort((a, b) => (a.file.path < b.file.path ? -1 : 1));
  const snippets = [...files.flatMap(snippetsOf), ...passages];
  const context = render(snippets);
  const tokens = tokensOfBytes(Buffer.byteLength(context));
  return { snippets, context, tokens, ms: performance.now() - started };
}

function covers({ path, startLine, endLine }: Snippet, { file, line }: Definition): boolean {
  return startLine <= line + 1 && line + 1 <= endLine && file.path === path;
}

/** Lines of one file; those that two signatures share stand once. */
function snippetsOf({ file, lines: packed }: PackedFile): Snippet[] {
  const snippets: Snippet[] = [];
  for (const { line: first, text, candidate } of packed) {
    for (const [i, content] of text.split("\n").entries()) {
      const line = first + i + 1;
      const last = snippets.at(-1);
      if (last && line <= last.endLine) continue;
      if (last && last.endLine === line - 1 && (i > 0 || last.reason === candidate.reason)) {
        last.endLine++;
        last.text += `\n${content}`;
      } else
        snippets.push({
          path: file.path,
          startLine: line,
          endLine: line,
          text: content,
          reason: candidate.reason,
        });
    }
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
