// Texts that the user has seen and written something else instead.
import { LRUCache } from "lru-cache";
import type { CursorSite } from "./documentSnapshot.ts";
import { typedSince } from "./typedAhead.ts";

const PLACES = 64;

/** The last text shown, and texts that were refused: these are not offered again at their place. */
export class ShownText {
  readonly #refused = new LRUCache<string, Set<string>>({ max: PLACES });
  #shown: { site: CursorSite; text: string } | undefined;

  /** Keys in a row that were typed into what was shown, instead of taking it. */
  nPassedOver = 0;

  show(site: CursorSite, text: string): void {
    this.#shown = { site, text };
  }

  /** The document stands at `site` now: what the user wrote instead of the last text refuses it. */
  movedTo(site: CursorSite): void {
    const shown = this.#shown;
    const typed = shown && typedSince(shown.site, site);
    if (shown === undefined) this.nPassedOver = 0;
    if (shown === undefined || typed === "") return;
    this.#shown = undefined;
    const isTypedInto = typed?.length === 1 && typed !== shown.text && shown.text.startsWith(typed);
    this.nPassedOver = isTypedInto ? this.nPassedOver + 1 : 0;
    // Deleting and going elsewhere say nothing about the text.
    if (typed !== undefined && !shown.text.startsWith(typed) && !typed.startsWith(shown.text))
      this.refuse(shown.site, shown.text);
  }

  refuse(site: CursorSite, text: string): void {
    const key = keyOf(site);
    const texts = this.#refused.get(key) ?? new Set();
    this.#refused.set(key, texts.add(text));
  }

  isRefused(site: CursorSite, text: string): boolean {
    return this.#refused.get(keyOf(site))?.has(text) ?? false;
  }

  clear(): void {
    this.#refused.clear();
    this.nPassedOver = 0;
    this.#shown = undefined;
  }
}

function keyOf(site: CursorSite): string {
  return `${site.filename}\0${site.prefix}\0${site.suffix}`;
}
