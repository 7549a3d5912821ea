// The tokens that copies are made of: not those of the model, but the words of source code.

/** Names, numbers, line breaks with the indentation behind them, blanks, and single other characters. */
const TOKEN =
  /[\p{L}_$][\p{L}\p{N}_$]*|\p{N}+|\n[^\S\n]*|[^\S\n]+|[\uD800-\uDBFF][\uDC00-\uDFFF]|[^\p{L}\p{N}_$\s]/gu;

export type TokenKind = "name" | "other" | "line" | "blank";

export function tokensOf(text: string): string[] {
  return text.match(TOKEN) ?? [];
}

export function kindOf(token: string): TokenKind {
  if (token.startsWith("\n")) return "line";
  if (/^\s/.test(token)) return "blank";
  return /^[\p{L}\p{N}_$]/u.test(token) ? "name" : "other";
}

/** Numbers for tokens, so that texts compare fast. */
export class Vocabulary {
  readonly #ids = new Map<string, number>();
  readonly #texts: string[] = [];
  readonly #blank: boolean[] = [];

  get size(): number {
    return this.#texts.length;
  }

  /** The token's number, a new one when it is new. */
  add(token: string): number {
    const known = this.#ids.get(token);
    if (known !== undefined) return known;
    const id = this.#texts.length;
    this.#ids.set(token, id);
    this.#texts.push(token);
    this.#blank.push(kindOf(token) === "blank");
    return id;
  }

  textOf(id: number): string {
    return this.#texts[id] ?? "";
  }

  /** Whether the token is white space within a line. */
  isBlank(id: number): boolean {
    return this.#blank[id] ?? false;
  }
}
