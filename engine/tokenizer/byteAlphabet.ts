/** GPT-2's alphabet: byte-level BPE files write each byte as one printable character. */

/** Character of each byte: printable Latin-1 stands for itself, the rest for U+0100 and up, in order. */
const charOfByte: readonly string[] = buildAlphabet();
const byteOfChar: ReadonlyMap<string, number> = new Map(
  charOfByte.map((char, byte) => [char, byte]),
);

function buildAlphabet(): string[] {
  const isPrintable = (b: number) => (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) =>
    String.fromCharCode(isPrintable(byte) ? byte : next++),
  );
}

/** The character that stands for `byte`. */
export function charFor(byte: number): string {
  return charOfByte[byte & 255] ?? "";
}

/** The bytes that `token` stands for, or undefined when a character is outside the alphabet. */
export function bytesOf(token: string): Uint8Array | undefined {
  const bytes = new Uint8Array(token.length);
  for (let i = 0; i < token.length; i++) {
    const byte = byteOfChar.get(token.charAt(i));
    if (byte === undefined) return undefined;
    bytes[i] = byte;
  }
  return bytes;
}
