// Figures by name or by file that one retrieval after the other uses. New arrays each time, as long as the name table,
// make the collector go through the whole index every few keystrokes.
import type { RepositoryIndex } from "../repositoryIndex.ts";

type FloatUse = "news" | "queryWeights" | "votes" | "votesOfPairs" | "evidence" | "files" | "lines";

/** The name table grows while the user types. */
const SPARE = 1.2;

/** Whoever asks for an array again takes it from whoever had it: scenes of one index are looked at one after the other. */
export class Scratch {
  readonly #floats = new Map<FloatUse, Float32Array>();
  #ints = new Int32Array(0);

  /** `length` zeros. */
  floats(use: FloatUse, length: number): Float32Array {
    const known = this.#floats.get(use);
    if (known && known.length >= length) return known.subarray(0, length).fill(0);
    const fresh = new Float32Array(Math.ceil(length * SPARE));
    this.#floats.set(use, fresh);
    return fresh.subarray(0, length);
  }

  /** `filled`, which `floats` gave for this use, with as many zeros behind it. */
  twice(use: FloatUse, filled: Float32Array): Float32Array {
    const { length } = filled;
    const known = this.#floats.get(use);
    if (known && known.length >= 2 * length) {
      const larger = known.subarray(0, 2 * length);
      larger.fill(0, length);
      return larger;
    }
    const larger = new Float32Array(2 * length);
    larger.set(filled);
    this.#floats.set(use, larger);
    return larger;
  }

  /** `length` zeros. */
  ints(length: number): Int32Array {
    if (this.#ints.length < length) this.#ints = new Int32Array(Math.ceil(length * SPARE));
    return this.#ints.subarray(0, length).fill(0);
  }
}

const scratches = new WeakMap<RepositoryIndex, Scratch>();

/** The arrays of one index. */
export function scratchOf(index: RepositoryIndex): Scratch {
  const known = scratches.get(index) ?? new Scratch();
  scratches.set(index, known);
  return known;
}
