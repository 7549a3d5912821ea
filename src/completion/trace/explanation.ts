// Why a request ended as it did, and the words for it: the one place that says it to the user.
import { assertNever } from "../../base/assertNever.ts";
import type { CompletionResult, NothingReason } from "../completionResult.ts";

/** Why nothing was asked at all. */
export type NotAsked =
  | { kind: "off" }
  | { kind: "language-off"; languageId: string }
  | { kind: "several-cursors" }
  /** `because`: the words of the guard, which name no file. */
  | { kind: "refused"; because: string };

export type ShownSource = "model" | "answers" | "copy";

export type Explanation =
  | { kind: "shown"; source: ShownSource; length: number; lines: number }
  | { kind: "nothing"; reason: NothingReason; detail?: string | undefined }
  | { kind: "not-asked"; why: NotAsked }
  /** A defect of ours. */
  | { kind: "defect"; message: string };

export function explanationOf(result: CompletionResult, source: ShownSource): Explanation {
  if (result.kind === "nothing") return result;
  const { text } = result;
  return { kind: "shown", source, length: text.length, lines: text.split("\n").length };
}

/** What happened in a sentence, without its full stop; and what the user can do about it, "" for nothing. */
export interface Words {
  said: string;
  advice: string;
}

const COMPLETE_NOW = "Run “Tidepool: Complete Now”";
const BE_EAGER = "Set “tidepool.mode” to “eager” to see less likely texts always.";

const nothingWords: Record<NothingReason, Words> = {
  "mid-line": {
    said: "the cursor stands in the middle of code, where a suggestion would push aside what follows it",
    advice: `${COMPLETE_NOW} to ask here all the same.`,
  },
  blank: {
    said: "the model wrote nothing that can be shown here",
    advice: `Type a few characters more. ${COMPLETE_NOW} for other texts.`,
  },
  "repeats-following": {
    said: "the model wrote what stands after the cursor already",
    advice: `${COMPLETE_NOW} for other texts.`,
  },
  "repeats-preceding": {
    said: "the model repeated the lines above",
    advice: `${COMPLETE_NOW} for other texts.`,
  },
  unsure: {
    said: "no text is likely enough to be what you are going to write",
    advice: `${COMPLETE_NOW} to see the likeliest texts all the same.`,
  },
  "not-visible": {
    said: "the text begins below the cursor’s line and the cursor stands in the indentation, where Tab indents",
    advice: `${COMPLETE_NOW} to see it all the same.`,
  },
  rejected: {
    said: "you dismissed this text here before",
    advice: `${COMPLETE_NOW} to see it again.`,
  },
  superseded: {
    said: "the document changed before there was an answer",
    advice:
      "Wait a moment after a key. “tidepool.completion.debounceMs” is how long Tidepool waits.",
  },
  "engine-not-ready": {
    said: "the engine is not ready",
    advice: "The status bar says what it does. “Tidepool: Run Doctor” examines the machine.",
  },
  "engine-failed": {
    said: "the engine could not answer",
    advice: "“Tidepool: Show Log” says more; “Tidepool: Restart Engine” starts another.",
  },
};

/** `mode` is the one that was asked in, when it is known. */
export function wordsFor(explanation: Explanation, mode?: string): Words {
  switch (explanation.kind) {
    case "shown":
      return shownWords(explanation);
    case "nothing": {
      const { reason, detail } = explanation;
      const { said, advice } = nothingWords[reason];
      const mayBeEager = reason === "unsure" && mode !== "eager";
      return {
        said: detail === undefined ? said : `${said}: ${detail}`,
        advice: mayBeEager ? `${advice} ${BE_EAGER}` : advice,
      };
    }
    case "not-asked":
      return notAskedWords(explanation.why);
    case "defect":
      return {
        said: `Tidepool made a mistake: ${explanation.message}`,
        advice: "Please report it with “Tidepool: Copy Completion Report”.",
      };
    default:
      return assertNever(explanation);
  }
}

const sourceWords: Record<ShownSource, string> = {
  model: "from the model",
  answers: "from an earlier answer of the model",
  copy: "copied from this file or one like it",
};

function shownWords({ source, length, lines }: Explanation & { kind: "shown" }): Words {
  const extent = lines > 1 ? `${length} characters in ${lines} lines` : `${length} characters`;
  return {
    said: `${extent}, ${sourceWords[source]}`,
    advice:
      "If you saw no text: another extension’s suggestion or the suggest widget may have taken its place, or “editor.inlineSuggest.enabled” is off.",
  };
}

function notAskedWords(why: NotAsked): Words {
  switch (why.kind) {
    case "off":
      return { said: "Tidepool is off", advice: "Run “Tidepool: Toggle Completions On or Off”." };
    case "language-off":
      return {
        said: `completions are off for the language “${why.languageId}”`,
        advice: "The setting “tidepool.enableLanguages” says for which they are on.",
      };
    case "several-cursors":
      return {
        said: "there are several cursors",
        advice: "Suggestions appear where one cursor is.",
      };
    case "refused":
      return {
        said: `nothing is asked in this file: ${why.because}`,
        advice:
          "This keeps secrets and files that you excluded out of every prompt. “.gitignore” and “.tidepoolignore” say what is excluded.",
      };
    default:
      return assertNever(why);
  }
}
