// Retrieval as the product asks for it: from an index that follows its files, with the passages that it may read.
import type { LiveIndex } from "./buildIndex.ts";
import { passagesFor } from "./passages.ts";
import type { RecentPlace } from "./recentPlaces.ts";
import { retrieve } from "./retrieve.ts";
import { bytesOfTokens, type ContextCursor, type Retrieval } from "./snippet.ts";

/** The lines of other files that the code at the cursor most likely needs, within `budgetTokens`. */
export async function retrieveLive(
  live: LiveIndex,
  cursor: ContextCursor,
  budgetTokens: number,
  recent: readonly RecentPlace[] = [],
): Promise<Retrieval> {
  const started = performance.now();
  const sources = { index: live.index, recent, read: (path: string) => live.textOf(path) };
  const passages = await passagesFor(sources, cursor, bytesOfTokens(budgetTokens));
  const found = retrieve(live.index, cursor, budgetTokens, passages);
  return { ...found, ms: performance.now() - started };
}
