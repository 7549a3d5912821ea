import type { InfillRequest } from "../../engine/protocol/api.ts";
import type { CompletionMode } from "./completionMode.ts";
import type { CursorSite } from "./documentSnapshot.ts";
import type { PromptParts } from "./promptMemory.ts";
import { windowOf } from "./promptWindow.ts";

/** Tokens that one line may take; more is a loop or a data table. */
const SINGLE_LINE_TOKENS = 64;

/** Most tokens of a completion when the user sets nothing else. */
export const DEFAULT_MAX_TOKENS = 96;

/** The engine's request for a completion at `site`, with what follows it and other files as `parts` say. */
export function infillRequest(
  site: CursorSite,
  mode: CompletionMode,
  parts: PromptParts,
  maxTokens: number,
): InfillRequest {
  const { prefix, suffix } = windowOf({ prefix: site.prefix, suffix: parts.suffix });
  return {
    input_prefix: prefix,
    input_suffix: suffix,
    input_extra: [...parts.extra],
    filename: site.filename,
    n_predict: mode === "single" ? Math.min(maxTokens, SINGLE_LINE_TOKENS) : maxTokens,
    temperature: 0,
    stop: mode === "single" ? ["\n"] : ["\n\n"],
    priority: "completion",
  };
}
