import { importPatterns, type Language, languageOfExtension } from "./importPatterns.ts";

export interface ImportName {
  /** As written in the source. */
  name: string;
  /** Line of the import, from 1. */
  line: number;
}

/** Imports usually stand at the head; a longer look costs time at each keystroke. */
const SEARCHED_UNITS = 50_000;

export function languageOf(filename: string): Language | undefined {
  return languageOfExtension[filename.slice(filename.lastIndexOf(".") + 1).toLowerCase()];
}

/** What `text` imports, in the order of its lines, each name once. */
export function importsOf(text: string, language: Language): ImportName[] {
  const head = text.slice(0, SEARCHED_UNITS);
  const found = new Map<string, number>();
  for (const pattern of importPatterns[language]) {
    for (const match of head.matchAll(pattern)) {
      const [, name] = match;
      if (name === undefined || found.has(name)) continue;
      const leading = match[0].length - match[0].trimStart().length;
      found.set(name, head.slice(0, match.index + leading).split("\n").length);
    }
  }
  return [...found].map(([name, line]) => ({ name, line })).sort((a, b) => a.line - b.line);
}
