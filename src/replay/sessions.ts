// Typing sessions cut out of real source files: what stands around the cursor, and what is going to be typed there.
import { readdirSync, readFileSync, statSync } from "node:fs";
import { extname, join, relative, sep } from "node:path";

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

const LANGUAGES: Readonly<Record<string, string>> = {
  ".ts": "TypeScript",
  ".mts": "TypeScript",
  ".tsx": "TypeScript",
  ".js": "JavaScript",
  ".mjs": "JavaScript",
  ".cjs": "JavaScript",
  ".jsx": "JavaScript",
  ".py": "Python",
  ".rs": "Rust",
  ".go": "Go",
  ".java": "Java",
  ".c": "C",
  ".h": "C",
  ".cc": "C++",
  ".cpp": "C++",
  ".hpp": "C++",
  ".cs": "C#",
  ".php": "PHP",
  ".rb": "Ruby",
};

const MOST_FILES = 20_000;
const SMALLEST_BYTES = 1500;
const LARGEST_BYTES = 60_000;
/** Files with longer lines are minified or data. */
const LONGEST_LINE = 240;
const SKIPPED_FOLDERS = new Set([
  ".git",
  "dist",
  "build",
  "out",
  "vendor",
  "third_party",
  "coverage",
]);
const GENERATED = /\.min\.|\.d\.[cm]?ts$|[-_.]generated\.|_pb2?\./;

/** The same folders and seed give the same sessions. Throws when no file is fit for one. */
export function collectSessions(options: SessionOptions): ReplaySession[] {
  const random = randomOf(options.seed);
  const byLanguage = new Map<string, { folder: string; path: string }[]>();
  for (const folder of options.folders) {
    for (const path of sourceFiles(folder)) {
      const language = LANGUAGES[extname(path)];
      if (language === undefined) continue;
      byLanguage.set(language, [...(byLanguage.get(language) ?? []), { folder, path }]);
    }
  }
  const languages = [...byLanguage.keys()].sort();
  for (const files of byLanguage.values()) shuffle(files, random);
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
  files: { folder: string; path: string }[],
  length: number,
  random: () => number,
): ReplaySession | undefined {
  for (let file = files.pop(); file !== undefined; file = files.pop()) {
    const text = readFileSync(file.path, "utf8").replaceAll("\r\n", "\n");
    const cut = cutOut(text, length, random);
    if (cut === undefined) continue;
    const filename = relative(file.folder, file.path).split(sep).join("/");
    return { language, folder: file.folder, filename, ...cut };
  }
  return undefined;
}

/** A run of lines out of the middle of the text; undefined when the text is too short or not written by hand. */
function cutOut(text: string, length: number, random: () => number) {
  const lines = text.split(/(?<=\n)/u);
  if (text.includes("\0") || lines.some((line) => line.length > LONGEST_LINE)) return undefined;
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

function sourceFiles(folder: string): string[] {
  const found: string[] = [];
  const open = [folder];
  for (let dir = open.pop(); dir !== undefined && found.length < MOST_FILES; dir = open.pop()) {
    const entries = readdirSync(dir, { withFileTypes: true });
    entries.sort((a, b) => (a.name < b.name ? -1 : 1));
    for (const entry of entries) {
      const path = join(dir, entry.name);
      if (entry.isDirectory() && !SKIPPED_FOLDERS.has(entry.name)) open.push(path);
      if (entry.isFile() && isFit(path)) found.push(path);
    }
  }
  return found;
}

function isFit(path: string): boolean {
  if (LANGUAGES[extname(path)] === undefined || GENERATED.test(path)) return false;
  const { size } = statSync(path);
  return size >= SMALLEST_BYTES && size <= LARGEST_BYTES;
}

function shuffle<T>(items: T[], random: () => number): void {
  for (let i = items.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    const a = items[i];
    const b = items[j];
    if (a === undefined || b === undefined) continue;
    items[i] = b;
    items[j] = a;
  }
}

/** Numbers in [0, 1) from a 32-bit seed (xorshift). */
function randomOf(seed: number): () => number {
  let state = (seed * 2654435761 + 1) >>> 0 || 1;
  return () => {
    state ^= (state << 13) >>> 0;
    state ^= state >>> 17;
    state ^= (state << 5) >>> 0;
    state >>>= 0;
    return state / 2 ** 32;
  };
}
