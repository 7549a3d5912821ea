// What the rest of the product sees of a context: lines of other files, and why they are there.

/** Bytes of source text to a token, by the bundled vocabulary. */
const BYTES_PER_TOKEN = 3.5;

/** Tokens for other files when the user sets nothing else. */
export const DEFAULT_CONTEXT_TOKENS = 1024;

/** Where completion is asked for: the file as it stands in the editor, saved or not. */
export interface ContextCursor {
  /** Path in the workspace, with forward slashes. */
  path: string;
  text: string;
  /** UTF-16 units before the cursor. */
  offset: number;
}

/** Lines of one file. */
export interface Snippet {
  path: string;
  /** Lines from 1, both included. */
  startLine: number;
  endLine: number;
  text: string;
  reason: string;
}

export interface Retrieval {
  /** In the order in which they stand in `context`: the steadiest first. */
  snippets: Snippet[];
  /** Snippets of one file stand under a line `#path`. */
  context: string;
  /** Estimated; at most the budget. */
  tokens: number;
  ms: number;
}

/** Estimated tokens of `bytes` of UTF-8. */
export function tokensOfBytes(bytes: number): number {
  return Math.ceil(bytes / BYTES_PER_TOKEN);
}

/** UTF-8 bytes that fit into `tokens`. */
export function bytesOfTokens(tokens: number): number {
  return Math.floor(tokens * BYTES_PER_TOKEN);
}

/** The line above the snippets of a file. */
export function headerOf(path: string): string {
  return `#${path}\n`;
}

/** Snippets as the engine takes them: one chunk for each file, in their order. */
export function chunksOf(snippets: readonly Snippet[]): { filename: string; text: string }[] {
  const chunks: { filename: string; text: string }[] = [];
  for (const { path, text } of snippets) {
    const last = chunks.at(-1);
    if (last?.filename === path) last.text += `\n${text}`;
    else chunks.push({ filename: path, text });
  }
  return chunks;
}
