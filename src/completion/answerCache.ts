import { LRUCache } from "lru-cache";
import type { CursorSite } from "./documentSnapshot.ts";
import type { Answer } from "./generation.ts";
import { typedSince } from "./typedAhead.ts";

/** Answers are looked through one by one, so few are kept: those of the last minutes of typing. */
const CAPACITY = 48;

/** The last answers, found again where they were given and while the user types what they say. */
export class AnswerCache {
  readonly #answers = new LRUCache<string, Answer>({ max: CAPACITY });

  put(answer: Answer): void {
    this.#answers.set(keyOf(answer.site), answer);
  }

  /** The latest answer that continues `site`, and how much of it was typed since, in UTF-16 units. */
  find(site: CursorSite): { answer: Answer; typedLength: number } | undefined {
    for (const answer of this.#answers.values()) {
      const typedLength = site.prefix.length - answer.site.prefix.length;
      if (typedLength < 0 || (typedLength > 0 && answer.text.length <= typedLength)) continue;
      // The texts around the cursor are long: they are compared only for an answer that says what was typed.
      if (!answer.text.startsWith(site.prefix.slice(answer.site.prefix.length))) continue;
      if (typedSince(answer.site, site) !== undefined) return { answer, typedLength };
    }
    return undefined;
  }

  clear(): void {
    this.#answers.clear();
  }
}

function keyOf(site: CursorSite): string {
  return `${site.filename}\0${site.prefix}\0${site.suffix}`;
}
