// What becomes of the texts on the screen. The editor tells extensions when a suggestion was taken whole and nothing else, so
// the rest is read off the document: typing what a text says takes a part of it, typing something else passes it over.
import type { CursorSite } from "../documentSnapshot.ts";
import { typedSince } from "../typedAhead.ts";

/** A text that was there for a shorter time has hardly been read: writing something else says nothing about it. */
const READ_MS = 300;

interface Offer {
  id: number;
  site: CursorSite;
  /** All of it from `site` on, LF line ends. */
  text: string;
  languageId: string;
  sinceMs: number;
}

/** Hears the share of a text that was taken, from 0 to 1; of texts that nothing can be said about it hears nothing. */
export type OnSettled = (languageId: string, taken: number) => void;

export class Offers {
  readonly #onSettled: OnSettled;
  #current: Offer | undefined;
  /** The last one whose end told nothing, which may yet prove to have been taken. */
  #untold: Offer | undefined;
  #lastId = 0;

  constructor(onSettled: OnSettled) {
    this.#onSettled = onSettled;
  }

  /** The document stands at `site` now. Called before `shown` or `hidden` for the same place. */
  movedTo(site: CursorSite, nowMs: number): void {
    const offer = this.#current;
    if (!offer) return;
    const typed = typedSince(offer.site, site);
    if (typed !== undefined && offer.text.startsWith(typed) && typed !== offer.text) return;
    const agreed = typed === undefined ? 0 : commonLength(offer.text, typed);
    const isTold = agreed > 0 || nowMs - offer.sinceMs >= READ_MS;
    if (typed !== undefined && isTold) this.#settle(offer, agreed / offer.text.length);
    else this.#endUntold(offer);
  }

  /** A text, LF line ends, is put on the screen. Gives the number under which it may be `taken`. */
  shown(site: CursorSite, text: string, languageId: string, nowMs: number): number {
    const offer = this.#current;
    const typed = offer && typedSince(offer.site, site);
    if (offer && typed !== undefined) {
      const rest = offer.text.slice(typed.length);
      if (text.startsWith(rest) || rest.startsWith(text)) {
        offer.text = typed + text;
        return offer.id;
      }
      this.#replace(offer, typed);
    }
    this.#current = { id: ++this.#lastId, site, text, languageId, sinceMs: nowMs };
    return this.#lastId;
  }

  /** Nothing is on the screen any more, though the document still agrees with what was. */
  hidden(site: CursorSite): void {
    const offer = this.#current;
    if (offer) this.#replace(offer, typedSince(offer.site, site) ?? "");
  }

  /** The editor says that a text was taken whole. */
  taken(id: number): void {
    const offer = [this.#current, this.#untold].find((one) => one?.id === id);
    if (offer) this.#settle(offer, 1);
  }

  /** Somebody else's doing took the text away, not the user's: what was typed of it counts, if anything was. */
  #replace(offer: Offer, typed: string): void {
    if (typed === "") this.#endUntold(offer);
    else this.#settle(offer, typed.length / offer.text.length);
  }

  #endUntold(offer: Offer): void {
    this.#current = undefined;
    this.#untold = offer;
  }

  #settle({ languageId }: Offer, taken: number): void {
    this.#current = undefined;
    this.#untold = undefined;
    this.#onSettled(languageId, Math.min(1, taken));
  }
}

function commonLength(a: string, b: string): number {
  let length = 0;
  while (length < a.length && length < b.length && a.charAt(length) === b.charAt(length)) length++;
  return length;
}
