import type { CursorSite } from "./documentSnapshot.ts";

/** More than this much new text is no typing but a paste. */
const LONGEST_TYPED = 256;

/** What editors insert after the cursor when the user types an opening bracket or quote. */
const AUTO_CLOSED = /^[)\]}>"'`]{0,4}$/;

/** Whether `text` is what an editor may have put after the cursor, nothing included. */
export function isAutoClosed(text: string): boolean {
  return AUTO_CLOSED.test(text);
}

/** Most places differ near the cursor, and long texts are compared only where they agree there. */
const COMPARED_FIRST = 64;

/** Whether `now` begins with `before`. Texts are equal in a fortieth of the time that `startsWith` takes for 70 KB. */
export function goesOn(before: string, now: string): boolean {
  const near = before.slice(-COMPARED_FIRST);
  if (!now.startsWith(near, before.length - near.length)) return false;
  return now.slice(0, before.length) === before;
}

function endsWith(now: string, before: string): boolean {
  return now.length >= before.length && now.slice(now.length - before.length) === before;
}

/** The text typed between two states of one document, or undefined when `now` did not come from `before` by typing. */
export function typedSince(before: CursorSite, now: CursorSite): string | undefined {
  const typedLength = now.prefix.length - before.prefix.length;
  if (typedLength < 0 || typedLength > LONGEST_TYPED) return undefined;
  if (before.filename !== now.filename || !goesOn(before.prefix, now.prefix)) return undefined;
  const typed = now.prefix.slice(before.prefix.length);
  if (now.suffix === before.suffix) return typed;
  if (typed === "" || !endsWith(now.suffix, before.suffix)) return undefined;
  const inserted = now.suffix.slice(0, now.suffix.length - before.suffix.length);
  return isAutoClosed(inserted) ? typed : undefined;
}
