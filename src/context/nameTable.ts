import { detached } from "./detached.ts";

/** Identifiers as numbers: postings and occurrence lists hold four bytes for a name, however often it stands. */
export class NameTable {
  readonly #ids = new Map<string, number>();
  readonly #texts: string[] = [];
  readonly #parts: (Uint32Array | undefined)[] = [];

  get size(): number {
    return this.#texts.length;
  }

  /** The number of `text`, a new one if it was never seen. */
  add(text: string): number {
    const known = this.#ids.get(text);
    if (known !== undefined) return known;
    const id = this.#texts.length;
    const own = detached(text);
    this.#ids.set(own, id);
    this.#texts.push(own);
    return id;
  }

  find(text: string): number | undefined {
    return this.#ids.get(text);
  }

  textOf(id: number): string {
    return this.#texts[id] ?? "";
  }

  /** Ids of the words in a name: `readHttpBody` and `READ_HTTP_BODY` both hold read, http and body. */
  partsOf(id: number): Uint32Array {
    const known = this.#parts[id];
    if (known) return known;
    const words = this.textOf(id).match(/[A-Z]+(?![a-z])|[A-Z]?[a-z]+/g) ?? [];
    const long = words.filter((word) => word.length > 2).map((word) => stem(word.toLowerCase()));
    const parts = Uint32Array.from(new Set(long.map((word) => this.add(`~${word}`))));
    this.#parts[id] = parts;
    return parts;
  }
}

/** A plural and its singular are the same word. */
function stem(word: string): string {
  return word.length > 4 && word.endsWith("s") && !word.endsWith("ss") ? word.slice(0, -1) : word;
}
