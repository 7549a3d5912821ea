import { repositoryContext } from "../context/repositoryContext.ts";
import { rounded } from "./completeCommand.ts";
import { openDocument, parseCount, parseLocation } from "./location.ts";

export interface ContextOptions {
  workspace?: string;
  budget: string;
  json?: boolean;
}

/** `context FILE:LINE:COL`: writes the other files that a completion at this place would see. */
export async function contextCommand(place: string, options: ContextOptions): Promise<void> {
  const location = parseLocation(place);
  const budgetTokens = parseCount(options.budget, "--budget", 0);
  const started = performance.now();
  const { snapshot, workspace } = await openDocument(location, options.workspace);
  const { filename, text } = snapshot;
  const found =
    workspace === undefined
      ? { chunks: [], snippets: [], tokens: 0 }
      : await repositoryContext({ workspace, filename, text, budgetTokens });
  const context = found.chunks.map((chunk) => `#${chunk.filename}\n${chunk.text}\n\n`).join("");
  const { snippets, tokens } = found;
  const ms = rounded(performance.now() - started);
  process.stdout.write(
    options.json ? `${JSON.stringify({ context, tokens, snippets, ms })}\n` : context,
  );
}
