// Files whose text is likely to be like that of a given one: near it, or named like it.
import { posix } from "node:path";
import type { ContextGuard } from "./guard/contextGuard.ts";

/** Text of related files, in UTF-16 units together, and of one of them. */
const MOST_UNITS = 150_000;
const MOST_OF_A_FILE = 40_000;
/** Files that are looked at, should most be empty or refused. */
const MOST_FILES = 200;
/** So many folders nearer are worth as much as a name that is the same. */
const NAME_WEIGHT = 3;
const OTHER_ENDING = 0.5;

/** Endings of one language, or of languages that are written side by side. */
const FAMILIES = [
  [".ts", ".tsx", ".mts", ".cts", ".js", ".jsx", ".mjs", ".cjs"],
  [".c", ".h", ".cc", ".hh", ".cpp", ".hpp", ".cxx", ".hxx"],
];

/** Of `paths` (with forward slashes), those of the same language: the most related first, `path` itself left out. */
export function relatedPaths(paths: Iterable<string>, path: string): string[] {
  const ending = posix.extname(path);
  const family = FAMILIES.find((endings) => endings.includes(ending)) ?? [ending];
  const folders = path.split("/").slice(0, -1);
  const words = wordsOf(path);
  const scored: { path: string; score: number }[] = [];
  for (const other of paths) {
    const otherEnding = posix.extname(other);
    if (other === path || !family.includes(otherEnding)) continue;
    const shared = [...wordsOf(other)].filter((word) => words.has(word)).length;
    const named = (NAME_WEIGHT * shared) / Math.max(1, words.size);
    const score = distance(folders, other) - named + (otherEnding === ending ? 0 : OTHER_ENDING);
    scored.push({ path: other, score });
  }
  scored.sort((a, b) => a.score - b.score || (a.path < b.path ? -1 : 1));
  return scored.map((entry) => entry.path);
}

/** The text of the most related files, as far as `read` gives it. */
export async function relatedTexts(
  paths: Iterable<string>,
  path: string,
  read: (path: string) => Promise<string | undefined>,
): Promise<string[]> {
  const texts: string[] = [];
  let left = MOST_UNITS;
  for (const other of relatedPaths(paths, path).slice(0, MOST_FILES)) {
    const text = (await read(other))?.replaceAll("\r\n", "\n").slice(0, MOST_OF_A_FILE);
    if (text === undefined) continue;
    texts.push(text);
    left -= text.length;
    if (left <= 0) break;
  }
  return texts;
}

/** The same, of files that a guard allows. */
export function guardedTexts(
  paths: Iterable<string>,
  path: string,
  guard: ContextGuard,
): Promise<string[]> {
  return relatedTexts(paths, path, async (other) => {
    const guarded = await guard.read(other);
    return guarded.kind === "allowed" ? guarded.file.text : undefined;
  });
}

/** Steps from one folder to another, up and down. */
function distance(folders: readonly string[], other: string): number {
  const others = other.split("/").slice(0, -1);
  let same = 0;
  while (same < Math.min(folders.length, others.length) && folders[same] === others[same]) same++;
  return folders.length + others.length - 2 * same;
}

function wordsOf(path: string): Set<string> {
  const stem = posix.basename(path).replace(/\.[^.]*$/, "");
  const words = stem.split(/[^\p{L}\p{N}]+|(?<=[\p{Ll}\p{N}])(?=\p{Lu})/u);
  return new Set(words.map((word) => word.toLowerCase()).filter((word) => word.length > 1));
}
