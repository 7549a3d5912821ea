// Typing sessions cut out of real source files: what stands around the cursor, and what is going to be typed there.
import { filesByLanguage, randomOf, readSource, type SourceFile } from "./sourceFiles.ts";

export interface ReplaySession {
  language: string;
  /** The folder that it was found in. */
  folder: string;
  /** Path relative to the folder. */
  filename: string;
  before: string;
  /** Typed character by character. */
  typed: string;
  after: string;
}

export interface SessionOptions {
  folders: readonly string[];
  /** Sessions in all, spread evenly over the languages that are found. */
  count: number;
  /** Least length of what is typed, in UTF-16 units; it ends with a whole line. */
  length: number;
  seed: number;
}

/** The same folders and seed give the same sessions. Throws when no file is fit for one. */
export function collectSessions(options: SessionOptions): ReplaySession[] {
  const random = randomOf(options.seed);
  const byLanguage = filesByLanguage(options.folders, random);
  const languages = [...byLanguage.keys()].sort();
  const sessions: ReplaySession[] = [];
  while (sessions.length < options.count && languages.length > 0) {
    for (const language of [...languages]) {
      const session = nextSession(language, byLanguage.get(language) ?? [], options.length, random);
      if (session === undefined) languages.splice(languages.indexOf(language), 1);
      else if (sessions.length < options.count) sessions.push(session);
    }
  }
  if (sessions.length > 0) return sessions;
  throw new Error(`expected source files in ${options.folders.join(", ")}, found none to type`);
}

function nextSession(
  language: string,
  files: SourceFile[],
  length: number,
  random: () => number,
): ReplaySession | undefined {
  for (let file = files.pop(); file !== undefined; file = files.pop()) {
    const text = readSource(file);
    const cut = text === undefined ? undefined : cutOut(text, length, random);
    if (cut) return { language, folder: file.folder, filename: file.filename, ...cut };
  }
  return undefined;
}

/** A run of lines out of the middle of the text; undefined when the text is too short. */
function cutOut(text: string, length: number, random: () => number) {
  const lines = text.split(/(?<=\n)/u);
  if (lines.length < 40) return undefined;
  const first = Math.floor(lines.length * (0.2 + 0.5 * random()));
  let end = first;
  let typed = "";
  while (end < lines.length && typed.length < length) typed += lines[end++] ?? "";
  if (typed.trim().length < length / 2) return undefined;
  return {
    before: lines.slice(0, first).join(""),
    typed: typed.replace(/\n$/, ""),
    after: `\n${lines.slice(end).join("")}`,
  };
}
