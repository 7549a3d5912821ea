import { kindOf, tokensOf, type Vocabulary } from "./tokens.ts";

/** A text as numbered tokens, with the places of each. */
export class TokenText {
  readonly ids: Int32Array;
  readonly #places = new Map<number, number[]>();
  /** Its different names, sorted. */
  readonly #names: string[];
  readonly #vocabulary: Vocabulary;

  constructor(text: string, vocabulary: Vocabulary) {
    const tokens = tokensOf(text);
    this.#vocabulary = vocabulary;
    this.ids = new Int32Array(tokens.length);
    const names = new Set<string>();
    for (const [at, token] of tokens.entries()) {
      const id = vocabulary.add(token);
      this.ids[at] = id;
      const places = this.#places.get(id);
      if (places) places.push(at);
      else {
        this.#places.set(id, [at]);
        if (kindOf(token) === "name") names.add(token);
      }
    }
    this.#names = [...names].sort();
  }

  /** Indices at which the token stands, ascending. */
  placesOf(id: number): readonly number[] {
    return this.#places.get(id) ?? [];
  }

  /** Indices of the names that are longer than `start` and begin with it. */
  *placesOfNames(start: string): Generator<number> {
    for (let i = this.#firstFrom(start); i < this.#names.length; i++) {
      const name = this.#names[i] ?? "";
      if (!name.startsWith(start)) return;
      if (name.length > start.length) yield* this.placesOf(this.#vocabulary.add(name));
    }
  }

  /** Index of the first name that is not less than `start`. */
  #firstFrom(start: string): number {
    let low = 0;
    let high = this.#names.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#names[middle] ?? "") < start) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
