// Looks for secrets in the text around a cursor at every keystroke, and reads again only what has changed.
import { secretIn } from "./secretText.ts";

/** No secret is longer than this, in UTF-16 units, with the name before it. */
const LONGEST_SECRET = 2048;
/** Texts are compared in pieces of this length. */
const PIECE = 4096;

export class SecretWatch {
  #before = "";
  #after = "";
  #isClean = false;

  /** Whether a secret stands in `before + after`, the texts on both sides of a cursor. */
  hasSecret(before: string, after: string): boolean {
    const text =
      this.#isClean && after === this.#after ? this.#changed(before, after) : before + after;
    const found = secretIn(text) !== undefined;
    this.#before = before;
    this.#after = after;
    this.#isClean = !found;
    return found;
  }

  /** Whole lines around all that differs from the last text, which held no secret. */
  #changed(before: string, after: string): string {
    const same = commonLength(this.#before, before);
    const start = before.lastIndexOf("\n", Math.max(0, same - LONGEST_SECRET)) + 1;
    const end = after.indexOf("\n", LONGEST_SECRET);
    return before.slice(start) + (end < 0 ? after : after.slice(0, end));
  }
}

/** Length of what both texts begin with, rounded down to whole pieces where they differ later. */
function commonLength(a: string, b: string): number {
  let at = 0;
  while (at < a.length && at < b.length && a.slice(at, at + PIECE) === b.slice(at, at + PIECE))
    at += PIECE;
  return Math.min(at, a.length, b.length);
}
