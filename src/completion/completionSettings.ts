import type { MultilineSetting } from "./completionMode.ts";

/** What the user, or a program, sets for completions. */
export interface CompletionSettings {
  debounceMs: number;
  maxTokens: number;
  multiline: MultilineSetting;
  /** After so many milliseconds what has been generated so far is shown; missing to wait for the end. */
  budgetMs?: number;
  /** Least probability of what is shown; missing for that of the balanced mode before anything was learned. */
  sure?: number;
}
