// Holds still what stands in front of the typed text in a prompt: whatever changes there is computed anew by the engine.
import type { ExtraChunk } from "../../engine/protocol/api.ts";
import type { CursorSite } from "./documentSnapshot.ts";
import { isAutoClosed } from "./typedAhead.ts";

/** Other files are looked for again after so many lines were typed at one place. */
const LINES_HELD = 40;

export interface PromptParts {
  /** What follows the cursor, as the engine knows it. */
  suffix: string;
  extra: readonly ExtraChunk[];
}

export class PromptMemory {
  #last: (PromptParts & { filename: string; line: number }) | undefined;

  /**
   * The parts for a request at `site`. While the user types at one place they are those of the request before:
   * a bracket that the editor put after the cursor does not change the suffix, and `context` is not asked again.
   */
  async partsFor(
    site: CursorSite,
    context: () => Promise<readonly ExtraChunk[]>,
  ): Promise<PromptParts> {
    const line = linesOf(site.prefix);
    const last = this.#last;
    if (last?.filename === site.filename && Math.abs(line - last.line) <= LINES_HELD) {
      const inserted = site.suffix.slice(0, site.suffix.length - last.suffix.length);
      if (site.suffix.endsWith(last.suffix) && isAutoClosed(inserted)) return last;
    }
    const extra = await context();
    this.#last = { suffix: site.suffix, extra, filename: site.filename, line };
    return this.#last;
  }

  forget(): void {
    this.#last = undefined;
  }
}

/** Counted without cutting the text up: it may be large, and every key asks. */
function linesOf(text: string): number {
  let lines = 1;
  for (let at = text.indexOf("\n"); at >= 0; at = text.indexOf("\n", at + 1)) lines++;
  return lines;
}
