// Source files written by hand below some folders: what benchmarks type and complete in.
import { readdirSync, readFileSync, statSync } from "node:fs";
import { extname, join, relative, sep } from "node:path";

export interface SourceFile {
  /** The folder that it was found in. */
  folder: string;
  /** Path relative to the folder, with forward slashes. */
  filename: string;
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

/** Files by language, each language's in an order that only `random` decides. */
export function filesByLanguage(
  folders: readonly string[],
  random: () => number,
): Map<string, SourceFile[]> {
  const byLanguage = new Map<string, SourceFile[]>();
  for (const folder of folders) {
    for (const path of sourceFiles(folder)) {
      const language = LANGUAGES[extname(path)];
      if (language === undefined) continue;
      const files = byLanguage.get(language) ?? [];
      files.push({ folder, filename: relative(folder, path).split(sep).join("/") });
      byLanguage.set(language, files);
    }
  }
  for (const files of byLanguage.values()) shuffle(files, random);
  return byLanguage;
}

/** The text with LF line ends; undefined when it is minified or no text. */
export function readSource({ folder, filename }: SourceFile): string | undefined {
  const text = readFileSync(join(folder, filename), "utf8").replaceAll("\r\n", "\n");
  const isWritten =
    !text.includes("\0") && text.split("\n").every((line) => line.length <= LONGEST_LINE);
  return isWritten ? text : undefined;
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
export function randomOf(seed: number): () => number {
  let state = (seed * 2654435761 + 1) >>> 0 || 1;
  return () => {
    state ^= (state << 13) >>> 0;
    state ^= state >>> 17;
    state ^= (state << 5) >>> 0;
    state >>>= 0;
    return state / 2 ** 32;
  };
}
