import type { CursorSite } from "./documentSnapshot.ts";

/** More than this much new text is no typing but a paste. */
const LONGEST_TYPED = 256;

/** What editors insert after the cursor when the user types an opening bracket or quote. */
const AUTO_CLOSED = /^[)\]}>"'`]{0,4}$/;

/** Whether `text` is what an editor may have put after the cursor, nothing included. */
export function isAutoClosed(text: string): boolean {
  return AUTO_CLOSED.test(text);
}

/** The text typed between two states of one document, or undefined when `now` did not come from `before` by typing. */
export function typedSince(before: CursorSite, now: CursorSite): string | undefined {
  if (before.filename !== now.filename || !now.prefix.startsWith(before.prefix)) return undefined;
  const typed = now.prefix.slice(before.prefix.length);
  if (typed.length > LONGEST_TYPED) return undefined;
  if (now.suffix === before.suffix) return typed;
  if (!now.suffix.endsWith(before.suffix) || typed === "") return undefined;
  const inserted = now.suffix.slice(0, now.suffix.length - before.suffix.length);
  return isAutoClosed(inserted) ? typed : undefined;
}
