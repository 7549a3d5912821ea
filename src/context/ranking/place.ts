// What kind of place the cursor stands at: the language, and what the text right before it asks for.
import { TEST_PATH } from "../pathKinds.ts";

export const placeNames = [
  "typescript",
  "python",
  "go",
  "rust",
  "java",
  "cpp",
  "csharp",
  "lineStart",
  "dot",
  "doubleColon",
  "arrow",
  "open",
  "comma",
  "equals",
  "colon",
  "less",
  "bracket",
  "at",
  "operator",
  "newWord",
  "typeWord",
  "returnWord",
  "otherWord",
  "typing",
  "isTestFile",
  "manyFiles",
] as const;

export const PLACES = placeNames.length;
export type Place = (typeof placeNames)[number];

const languageGroups: Readonly<Record<string, Place>> = {
  typescript: "typescript",
  tsx: "typescript",
  javascript: "typescript",
  python: "python",
  go: "go",
  rust: "rust",
  java: "java",
  c: "cpp",
  cpp: "cpp",
  csharp: "csharp",
};

const TYPE_WORD =
  /\b(?:extends|implements|class|struct|throws|throw|as|is|instanceof|interface|enum|impl|dyn|catch|type|keyof|typeof|static|public|private|protected|final|const|readonly|override|virtual|abstract|except|raise)$/;

/** By the end of the text before the cursor, blanks left out; the first that fits. */
const endings: readonly (readonly [RegExp, Place])[] = [
  [/^$/, "lineStart"],
  [/::$/, "doubleColon"],
  [/->$/, "arrow"],
  [/\.$/, "dot"],
  [/\($/, "open"],
  [/,$/, "comma"],
  [/(?:^|[^=!<>])=$|:=$/, "equals"],
  [/:$/, "colon"],
  [/<$/, "less"],
  [/[[{]$/, "bracket"],
  [/@$/, "at"],
  [/[^\w$]$/, "operator"],
  [/\bnew$/, "newWord"],
  [TYPE_WORD, "typeWord"],
  [/\b(?:return|yield|await|if|while|for|in|not|and|or|elif|match|switch|case)$/, "returnWord"],
];

/** What the end of `before`, the line up to the name at the cursor, asks for. */
export function placeBefore(before: string): Place {
  const text = before.trimEnd();
  return endings.find(([pattern]) => pattern.test(text))?.[1] ?? "otherWord";
}

/** What a scene says of its place. */
export interface PlaceFacts {
  path: string;
  language: { id: string } | undefined;
  place: Place;
  /** The name being typed; empty between names. */
  typed: string;
  index: { files: { size: number } };
}

/** (PLACES): one for what is so. */
export function placeRow(scene: PlaceFacts): Float32Array {
  const row = new Float32Array(PLACES);
  const set = (place: Place, value = 1) => {
    row[placeNames.indexOf(place)] = value;
  };
  const group = languageGroups[scene.language?.id ?? ""];
  if (group) set(group);
  set(scene.place);
  if (scene.typed) set("typing");
  if (TEST_PATH.test(scene.path)) set("isTestFile");
  set("manyFiles", Math.log(1 + scene.index.files.size) / 8);
  return row;
}
