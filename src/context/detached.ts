/** The same text on its own: a slice keeps the whole text alive that it was cut from, which for an index is every file. */
export function detached(text: string): string {
  return text === "" ? "" : Buffer.from(text).toString();
}
