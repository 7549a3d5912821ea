// The simple ways to choose other code for a cursor, which a better one has to beat.
import { resolveImport } from "../context/importResolution.ts";
import { importStatements } from "../context/importStatements.ts";
import type { RepositoryIndex } from "../context/repositoryIndex.ts";
import { languageOf } from "../context/syntax.ts";
import { definingLines } from "./judge.ts";
import type { MaskedPosition } from "./positions.ts";
import type { BenchFile, BenchRepository } from "./repository.ts";

export const baselineNames = ["jaccard", "bm25", "imports", "mix"] as const;
export type BaselineName = (typeof baselineNames)[number];

const WINDOW_LINES = 20;
const STEP_LINES = 10;
const QUERY_LINES = 20;

interface Window {
  path: string;
  text: string;
  words: Map<string, number>;
  length: number;
}

/** Baselines over one repository; its windows are cut once. */
export class Baselines {
  readonly #repository: BenchRepository;
  readonly #index: RepositoryIndex;
  readonly #windows: Window[];
  readonly #chunksWith = new Map<string, number>();
  readonly #meanLength: number;

  constructor(repository: BenchRepository, index: RepositoryIndex) {
    this.#repository = repository;
    this.#index = index;
    this.#windows = repository.files.flatMap(windowsOf);
    for (const { words } of this.#windows)
      for (const word of words.keys())
        this.#chunksWith.set(word, (this.#chunksWith.get(word) ?? 0) + 1);
    const total = this.#windows.reduce((sum, { length }) => sum + length, 0);
    this.#meanLength = total / Math.max(1, this.#windows.length);
  }

  /** The context that a baseline puts into `bytes`. */
  context(name: BaselineName, position: MaskedPosition, bytes: number): string {
    switch (name) {
      case "jaccard":
        return filled(this.#jaccard(position), bytes);
      case "bm25":
        return filled(this.#bm25(position), bytes);
      case "imports":
        return filled(this.#signatures(position), bytes);
      case "mix": {
        const signatures = filled(this.#signatures(position), bytes / 2);
        const chunks = filled(this.#bm25(position), (bytes - signatures.length) / 2);
        const left = bytes - Buffer.byteLength(signatures) - Buffer.byteLength(chunks);
        return signatures + chunks + filled(this.#jaccard(position), left);
      }
    }
  }

  #jaccard(position: MaskedPosition): string[] {
    const query = queryWords(position);
    return this.#best(position, ({ words }) => {
      let common = 0;
      for (const word of query) if (words.has(word)) common++;
      return common / (query.size + words.size - common || 1);
    });
  }

  #bm25(position: MaskedPosition): string[] {
    const weights = new Map<string, number>();
    for (const word of queryWords(position)) {
      const chunks = this.#chunksWith.get(word) ?? 0;
      weights.set(word, Math.log(1 + (this.#windows.length - chunks + 0.5) / (chunks + 0.5)));
    }
    return this.#best(position, ({ words, length }) => {
      let score = 0;
      for (const [word, weight] of weights) {
        const count = words.get(word);
        if (count === undefined) continue;
        const norm = 1.2 * (0.25 + (0.75 * length) / this.#meanLength);
        score += (weight * count * 2.2) / (count + norm);
      }
      return score;
    });
  }

  #best({ path }: MaskedPosition, score: (window: Window) => number): string[] {
    return this.#windows
      .filter((window) => window.path !== path)
      .map((window) => ({ window, score: score(window) }))
      .filter((item) => item.score > 0)
      .sort((a, b) => b.score - a.score)
      .slice(0, 120)
      .map(({ window }) => `#${window.path}\n${window.text}\n`);
  }

  #signatures({ path, text }: MaskedPosition): string[] {
    const form = languageOf(path)?.imports;
    if (!form) return [];
    const wanted = new Set<string>();
    for (const { source } of importStatements(text, form))
      for (const file of resolveImport(this.#index, path, form, source)) wanted.add(file.path);
    const byPath = new Map(this.#repository.files.map((file) => [file.path, file]));
    return [...wanted].flatMap((wantedPath) => {
      const file = byPath.get(wantedPath);
      return file ? [`#${wantedPath}\n`, ...signatureLines(file)] : [];
    });
  }
}

function signatureLines({ text, language }: BenchFile): string[] {
  const lines = new Set<string>();
  for (const found of definingLines(text, language).values())
    for (const line of found) lines.add(`${line}\n`);
  return [...lines];
}

function windowsOf({ path, text }: BenchFile): Window[] {
  const lines = text.split("\n");
  const windows: Window[] = [];
  for (let start = 0; start < lines.length; start += STEP_LINES) {
    const part = lines.slice(start, start + WINDOW_LINES).join("\n");
    const words = new Map<string, number>();
    let length = 0;
    for (const word of wordsOf(part)) {
      words.set(word, (words.get(word) ?? 0) + 1);
      length++;
    }
    windows.push({ path, text: part, words, length });
    if (start + WINDOW_LINES >= lines.length) break;
  }
  return windows;
}

function queryWords({ text, offset }: MaskedPosition): Set<string> {
  return new Set(wordsOf(text.slice(0, offset).split("\n").slice(-QUERY_LINES).join("\n")));
}

function wordsOf(text: string): string[] {
  return text.match(/[A-Za-z_$][\w$]+/g) ?? [];
}

/** Whole pieces while they fit. */
function filled(pieces: readonly string[], bytes: number): string {
  let text = "";
  let left = bytes;
  for (const piece of pieces) {
    const size = Buffer.byteLength(piece);
    if (size > left) break;
    text += piece;
    left -= size;
  }
  return text;
}
