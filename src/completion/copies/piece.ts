import { Enclosures } from "./enclosing.ts";
import { kindOf, tokensOf, type Vocabulary } from "./tokens.ts";

/** Some lines of a text as numbered tokens, with the places of each. */
export class Piece {
  readonly text: string;
  readonly ids: Int32Array;
  readonly enclosures: Enclosures;
  readonly #places = new Map<number, number[]>();
  /** Its different names, sorted, and their numbers. */
  readonly #names: string[];
  readonly #nameIds: number[];
  /** Indices of the line breaks. */
  readonly #lineBreaks: number[] = [];

  constructor(text: string, vocabulary: Vocabulary) {
    const tokens = tokensOf(text);
    this.text = text;
    this.ids = new Int32Array(tokens.length);
    this.enclosures = new Enclosures(text);
    const names = new Set<string>();
    for (const [at, token] of tokens.entries()) {
      const id = vocabulary.add(token);
      this.ids[at] = id;
      const kind = kindOf(token);
      if (kind === "line") this.#lineBreaks.push(at);
      const places = this.#places.get(id);
      if (places) places.push(at);
      else {
        this.#places.set(id, [at]);
        if (kind === "name") names.add(token);
      }
    }
    this.#names = [...names].sort();
    this.#nameIds = this.#names.map((name) => vocabulary.add(name));
  }

  /** Indices at which the token stands, ascending. */
  placesOf(id: number): readonly number[] {
    return this.#places.get(id) ?? [];
  }

  /** Indices of the names that are longer than `start` and begin with it. */
  *placesOfNames(start: string): Generator<number> {
    const first = firstNotBelow(this.#names, start);
    for (let i = first; this.#names[i]?.startsWith(start) ?? false; i++) {
      const isLonger = (this.#names[i] ?? "").length > start.length;
      if (isLonger) yield* this.placesOf(this.#nameIds[i] ?? -1);
    }
  }

  /** The number of the line that holds the token, from 0. */
  lineOf(at: number): number {
    return firstNotBelow(this.#lineBreaks, at + 1);
  }
}

/** Index of the first of sorted values that is not less than `least`. */
export function firstNotBelow<T extends string | number>(sorted: readonly T[], least: T): number {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    const value = sorted[middle];
    if (value !== undefined && value < least) low = middle + 1;
    else high = middle;
  }
  return low;
}
