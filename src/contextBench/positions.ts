// Chooses the places that are masked: cursors whose rest of the line uses what other files define and what stands
// nowhere else in this one, import statements excepted.
import {
  type BenchLanguage,
  isComment,
  isJudgedName,
  withoutImports,
  withoutLongStrings,
} from "./judge.ts";
import type { BenchFile, BenchRepository } from "./repository.ts";

export interface MaskedPosition {
  path: string;
  language: BenchLanguage;
  /** The file with the rest of the cursor's line taken out. */
  text: string;
  offset: number;
  /** What was taken out. */
  rest: string;
  /** Names of the rest that are asked for. */
  names: string[];
  /** Those of them that an import statement of the file mentions. */
  imported: string[];
}

export interface PositionOptions {
  count: number;
  mostOfFile: number;
  seed: number;
}

/** The same repository and seed give the same positions. */
export function maskedPositions(
  repository: BenchRepository,
  { count, mostOfFile, seed }: PositionOptions,
): MaskedPosition[] {
  const random = randomOf(seed);
  const found: MaskedPosition[] = [];
  for (const file of shuffled(repository.files, random)) {
    if (found.length >= count) break;
    const inFile = shuffled(linesOf(repository, file), random).slice(0, mostOfFile);
    for (const line of inFile) found.push(maskedAt(file, line, random));
  }
  return found.slice(0, count);
}

interface AskingLine {
  start: number;
  text: string;
  names: { name: string; at: number }[];
  imported: Set<string>;
}

const NAME = /[A-Za-z_$][\w$]*/g;

/** Lines of code with names that are defined in other files and stand on no other line of this one. */
function linesOf({ definitions }: BenchRepository, file: BenchFile): AskingLine[] {
  const bare = withoutImports(file.text, file.language);
  const lines = bare.split("\n");
  const linesWith = new Map<string, number>();
  for (const line of lines)
    for (const name of new Set(line.match(NAME)))
      linesWith.set(name, (linesWith.get(name) ?? 0) + 1);
  const asked = (name: string) => {
    if (linesWith.get(name) !== 1 || !isJudgedName(name)) return false;
    const places = definitions.get(name);
    return places !== undefined && !places.has(file.path);
  };
  const code = withoutLongStrings(file.text, file.language).split("\n");
  const found: AskingLine[] = [];
  let start = 0;
  for (const [i, line] of lines.entries()) {
    // Neither an import nor a string has changed the line.
    if (line === code[i] && line.length <= 200 && !isComment(line)) {
      const code = withoutText(line);
      const names = [...code.matchAll(NAME)]
        .map((match) => ({ name: match[0], at: match.index }))
        .filter(({ name }) => asked(name));
      const imported = new Set(
        names.map(({ name }) => name).filter((n) => mentions(file, bare, n)),
      );
      if (names.length > 0) found.push({ start, text: line, names, imported });
    }
    start += line.length + 1;
  }
  return found;
}

/** The name stands in the file's import statements. */
function mentions(file: BenchFile, bare: string, name: string): boolean {
  const pattern = new RegExp(`(?<![\\w$])${name.replaceAll("$", "\\$")}(?![\\w$])`, "g");
  return (file.text.match(pattern)?.length ?? 0) > (bare.match(pattern)?.length ?? 0);
}

/** The line with its strings and the comment at its end blanked out. */
function withoutText(line: string): string {
  const blank = (text: string) => " ".repeat(text.length);
  return line
    .replace(/"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'/g, blank)
    .replace(/(?:\/\/|\/\*|\s#\s).*$/, blank);
}

/** Half of the cursors stand right before the first name, a quarter where the line begins, the others between them. */
function maskedAt(file: BenchFile, line: AskingLine, random: () => number): MaskedPosition {
  const first = line.names[0]?.at ?? 0;
  const begin = line.text.length - line.text.trimStart().length;
  const choice = random();
  let column = first;
  if (choice < 0.25) column = begin;
  else if (choice < 0.5) {
    const starts = [...line.text.slice(begin, first).matchAll(/[A-Za-z_$][\w$]*|[^\w\s]/g)];
    const at = starts[Math.floor(random() * starts.length)]?.index;
    if (at !== undefined) column = begin + at;
  }
  const offset = line.start + column;
  const end = line.start + line.text.length;
  const names = [...new Set(line.names.map(({ name }) => name))];
  return {
    path: file.path,
    language: file.language,
    text: file.text.slice(0, offset) + file.text.slice(end),
    offset,
    rest: file.text.slice(offset, end),
    names,
    imported: names.filter((name) => line.imported.has(name)),
  };
}

function shuffled<T>(items: readonly T[], random: () => number): T[] {
  const result = [...items];
  for (let i = result.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    const [a, b] = [result[i], result[j]];
    if (a !== undefined && b !== undefined) {
      result[i] = b;
      result[j] = a;
    }
  }
  return result;
}

/** Numbers from 0 to 1 that `seed` decides (Mulberry32). */
export function randomOf(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}
