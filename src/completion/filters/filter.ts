import type { CompletionMode } from "../completionMode.ts";
import type { CursorSite } from "../documentSnapshot.ts";

/** Where and how a text was generated: all that a filter may look at besides the text. */
export interface FilterSite {
  site: CursorSite;
  mode: CompletionMode;
  /** True when generation ended at the token limit, so that the last line may be unfinished. */
  cutByLimit: boolean;
}

/** Takes generated text, LF line ends, to the part of it that may be shown. */
export type Filter = (text: string, at: FilterSite) => string;
