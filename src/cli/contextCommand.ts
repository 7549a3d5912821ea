import { LiveIndex } from "../context/buildIndex.ts";
import { refusalText } from "../context/guard/contextGuard.ts";
import { defaultStoreFolder } from "../context/indexStore.ts";
import { retrieveLive } from "../context/liveRetrieval.ts";
import { guardedTexts } from "../context/relatedFiles.ts";
import type { Retrieval } from "../context/snippet.ts";
import type { OpenedDocument } from "./location.ts";
import { openDocument, parseCount, parseLocation } from "./location.ts";
import { rounded } from "./rounded.ts";

export interface ContextOptions {
  workspace?: string;
  budget: string;
  json?: boolean;
}

/** `context FILE:LINE:COL`: writes the other files that a completion at this place would see. */
export async function contextCommand(place: string, options: ContextOptions): Promise<void> {
  const location = parseLocation(place);
  const budgetTokens = parseCount(options.budget, "--budget", 0);
  const opened = await openDocument(location, options.workspace);
  const { filename, text, offset } = opened.snapshot;
  const refusal = await opened.guard.refusalOfOpenFile(filename, text, offset);
  if (refusal) throw new Error(`no context for ${filename}: ${refusalText[refusal]}`);
  const found = await contextOf(opened, budgetTokens);
  if (!options.json) {
    process.stdout.write(found.context);
    return;
  }
  const snippets = found.snippets.map(({ text: _, ...where }) => where);
  const { context, tokens } = found;
  process.stdout.write(`${JSON.stringify({ context, tokens, snippets, ms: rounded(found.ms) })}\n`);
}

/**
 * What a completion in this document sees of other files; nothing for a file outside of its workspace. The caller has
 * asked the guard about the document. `ms` is the retrieval, without reading the index.
 */
export async function contextOf(
  { snapshot, workspace }: OpenedDocument,
  budgetTokens: number,
): Promise<Retrieval> {
  if (workspace === undefined || budgetTokens === 0)
    return { snippets: [], context: "", tokens: 0, ms: 0 };
  const { filename, text, offset } = snapshot;
  const live = new LiveIndex({ root: workspace, storeFolder: defaultStoreFolder() });
  await live.refresh();
  return retrieveLive(live, { path: filename, text, offset }, budgetTokens);
}

/** Texts of files that are like the document, which a completion may copy from. */
export async function relatedOf({ snapshot, workspace, guard }: OpenedDocument): Promise<string[]> {
  if (workspace === undefined) return [];
  return guardedTexts(await guard.list(), snapshot.filename, guard);
}
