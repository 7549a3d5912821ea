/** Why nothing is shown. */
export type NothingReason =
  | "mid-line"
  | "blank"
  | "repeats-following"
  | "repeats-preceding"
  | "unsure"
  | "not-visible"
  | "rejected"
  | "superseded"
  | "engine-not-ready"
  | "engine-failed";

/** What the user sees: text to insert at the cursor in place of the next `replaceLength` UTF-16 units of its line, or nothing. */
export type CompletionResult =
  | { kind: "shown"; text: string; replaceLength: number }
  | { kind: "nothing"; reason: NothingReason; detail?: string };
