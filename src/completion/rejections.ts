// Texts that the user has seen and typed something else instead: they are not offered again at that place.
import { LRUCache } from "lru-cache";
import type { CursorSite } from "./documentSnapshot.ts";
import { typedSince } from "./typedAhead.ts";

const PLACES = 64;

export class Rejections {
  readonly #texts = new LRUCache<string, Set<string>>({ max: PLACES });
  #shown: { site: CursorSite; text: string } | undefined;

  /** A text is on the screen at `site`. */
  showed(site: CursorSite, text: string): void {
    this.#shown = { site, text };
  }

  /** The document stands at `site` now: decides what became of the text that was shown last. */
  movedTo(site: CursorSite): void {
    const shown = this.#shown;
    const typed = shown && typedSince(shown.site, site);
    if (shown === undefined || typed === "") return;
    this.#shown = undefined;
    // Deleting and jumping elsewhere say nothing about the text.
    if (typed !== undefined && !shown.text.startsWith(typed) && !typed.startsWith(shown.text))
      this.reject(shown.site, shown.text);
  }

  reject(site: CursorSite, text: string): void {
    const key = keyOf(site);
    const texts = this.#texts.get(key) ?? new Set();
    this.#texts.set(key, texts.add(text));
  }

  isRejected(site: CursorSite, text: string): boolean {
    return this.#texts.get(keyOf(site))?.has(text) ?? false;
  }

  clear(): void {
    this.#texts.clear();
    this.#shown = undefined;
  }
}

function keyOf(site: CursorSite): string {
  return `${site.filename}\0${site.prefix}\0${site.suffix}`;
}
