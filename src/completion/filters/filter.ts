import type { CompletionMode } from "../completionMode.ts";
import type { CursorScope, TextRange } from "../cursorSyntax.ts";
import type { CursorSite } from "../documentSnapshot.ts";

/** Where and how a text was generated: all that a filter may look at besides the text. */
export interface FilterSite {
  site: CursorSite;
  mode: CompletionMode;
  /** True when generation ended at the token limit, so that the last line may be unfinished. */
  cutByLimit: boolean;
  /** What the grammar says of the cursor; missing where there is none. */
  scope?: CursorScope | undefined;
  /** Strings and comments in the generated text; missing where they are not known. */
  literals?: readonly TextRange[] | undefined;
}

/** What takes part in cutting a text, in the order in which they do. */
export type StepName =
  | "first line"
  | "enclosing end"
  | "block end"
  | "unfinished line"
  | "indent style"
  | "doubled space"
  | "repetition"
  | "preceding lines"
  | "following lines"
  | "closers"
  | "trailing space"
  | "typed since"
  | "sure part";

/** What one of them did, for who asks why a text was not shown. */
export interface FilterStep {
  name: StepName;
  before: string;
  after: string;
}

/** Takes generated text, LF line ends, to the part of it that may be shown. */
export type Filter = (text: string, at: FilterSite) => string;
