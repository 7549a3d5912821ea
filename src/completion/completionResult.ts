/** Why nothing is shown. */
export type NothingReason =
  | "mid-line"
  | "blank"
  | "repeats-following"
  | "repeats-preceding"
  | "unsure"
  | "rejected"
  | "superseded"
  | "engine-not-ready"
  | "engine-failed";

/** In words, for the log and the CLI. */
export const reasonText: Record<NothingReason, string> = {
  "mid-line": "the cursor stands in the middle of code",
  blank: "the model suggests no text here",
  "repeats-following": "the suggestion repeats the text after the cursor",
  "repeats-preceding": "the suggestion repeats the lines above",
  unsure: "the model is not sure enough",
  rejected: "the same text was refused here before",
  superseded: "a newer request took its place",
  "engine-not-ready": "the engine is not ready",
  "engine-failed": "the engine could not answer",
};

/** What the user sees: text to insert at the cursor in place of the next `replaceLength` UTF-16 units of its line, or nothing. */
export type CompletionResult =
  | { kind: "shown"; text: string; replaceLength: number }
  | { kind: "nothing"; reason: NothingReason; detail?: string };
