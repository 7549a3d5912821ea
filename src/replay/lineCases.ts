// Single lines taken out of real source files: what a model is asked to put back.
import { filesByLanguage, randomOf, readSource, type SourceFile } from "./sourceFiles.ts";

/** A whole line behind its indentation, or what follows a place in the first two thirds of it. */
export type LineKind = "line" | "rest";

export interface LineCase {
  language: string;
  kind: LineKind;
  filename: string;
  before: string;
  /** What was taken out, up to the end of its line. */
  line: string;
  /** Begins with the line's end. */
  after: string;
}

export interface LineOptions {
  folders: readonly string[];
  /** Cases of each language, half of them of each kind. */
  perLanguage: number;
  seed: number;
}

/** Shorter lines are mostly brackets. */
const SHORTEST_LINE = 8;
const TRIES = 50;

/** The same folders and seed give the same cases; files take turns. Throws when no file is fit for one. */
export function collectLines({ folders, perLanguage, seed }: LineOptions): LineCase[] {
  const random = randomOf(seed);
  const byLanguage = [...filesByLanguage(folders, random)].sort(([a], [b]) => (a < b ? -1 : 1));
  const cases = byLanguage.flatMap(([language, files]) =>
    casesOf(language, files, perLanguage, random),
  );
  if (cases.length > 0) return cases;
  throw new Error(`expected source files in ${folders.join(", ")}, found none with lines of code`);
}

function casesOf(
  language: string,
  files: readonly SourceFile[],
  count: number,
  random: () => number,
): LineCase[] {
  const cases: LineCase[] = [];
  let fruitless = 0;
  for (let i = 0; cases.length < count && files.length > 0 && fruitless < files.length; i++) {
    const file = files[i % files.length];
    const text = file && readSource(file);
    const kind = cases.length % 2 === 0 ? "line" : "rest";
    const cut = text === undefined ? undefined : takeLine(text, kind, random);
    if (file && cut) cases.push({ language, kind, filename: file.filename, ...cut });
    fruitless = cut ? 0 : fruitless + 1;
  }
  return cases;
}

/** A line of the text that says something; undefined when none is found. */
function takeLine(text: string, kind: LineKind, random: () => number) {
  const lines = text.split("\n");
  for (let tries = 0; tries < TRIES; tries++) {
    const at = Math.floor(lines.length * random());
    const line = lines[at] ?? "";
    const code = line.trim();
    if (code.length < SHORTEST_LINE || !/\p{L}/u.test(code)) continue;
    const indent = line.length - line.trimStart().length;
    const within = kind === "line" ? 0 : 1 + Math.floor(((code.length * 2) / 3) * random());
    const cursor = lines.slice(0, at).join("\n").length + (at > 0 ? 1 : 0) + indent + within;
    const end = cursor + line.length - indent - within;
    return { before: text.slice(0, cursor), line: text.slice(cursor, end), after: text.slice(end) };
  }
  return undefined;
}
