import { firstNotBelow, Piece } from "./piece.ts";
import type { Vocabulary } from "./tokens.ts";

/** A piece ends before a line break about every so many lines, by what stands on the line above it. */
const LINES_IN_PIECE = 16;
/** Where no line says so, after so many UTF-16 units. */
const LONGEST_PIECE = 4000;

/**
 * A text as numbered tokens, with the places of each. It is made of pieces that are cut by what stands in them, so that a
 * text that is mostly the same shares most of its pieces and is numbered in little time.
 */
export class TokenText {
  readonly ids: Int32Array;
  readonly #pieces: readonly Piece[];
  /** Index of the first token of each piece. */
  readonly #starts: number[] = [];
  /** What encloses the start of each piece, by columns of indentation, as far as somebody asked. */
  readonly #outer: (Map<number, string | undefined> | undefined)[] = [];

  /** Takes from `known` the pieces that are the same. */
  constructor(text: string, vocabulary: Vocabulary, known: readonly TokenText[] = []) {
    const numbered = new Map(
      known.flatMap((one) => one.#pieces.map((piece) => [piece.text, piece])),
    );
    this.#pieces = piecesOf(text).map((part) => numbered.get(part) ?? new Piece(part, vocabulary));
    let length = 0;
    for (const { ids } of this.#pieces) {
      this.#starts.push(length);
      length += ids.length;
    }
    this.ids = new Int32Array(length);
    for (const [i, { ids }] of this.#pieces.entries()) this.ids.set(ids, this.#starts[i]);
  }

  /** Indices at which the token stands, ascending: the last `most` of them. */
  lastPlacesOf(id: number, most: number): number[] {
    const found: number[] = [];
    for (let i = this.#pieces.length - 1; i >= 0 && found.length < most; i--) {
      const places = this.#pieces[i]?.placesOf(id) ?? [];
      const start = this.#starts[i] ?? 0;
      for (let j = places.length - 1; j >= 0 && found.length < most; j--)
        found.push(start + (places[j] ?? 0));
    }
    return found.reverse();
  }

  /** Indices of the names that are longer than `start` and begin with it. */
  *placesOfNames(start: string): Generator<number> {
    for (const [i, piece] of this.#pieces.entries())
      for (const at of piece.placesOfNames(start)) yield (this.#starts[i] ?? 0) + at;
  }

  /** The name of the function or type that encloses a token, by indentation. */
  enclosing(at: number): string | undefined {
    const i = firstNotBelow(this.#starts, at + 1) - 1;
    const piece = this.#pieces[i];
    const found = piece?.enclosures.at(piece.lineOf(at - (this.#starts[i] ?? 0)));
    return typeof found === "number" ? this.#enclosingBefore(i, found) : found;
  }

  /** The same for a line behind the text that is indented by `indent` columns. */
  enclosingBehind(indent: number): string | undefined {
    return this.#enclosingBefore(this.#pieces.length, indent);
  }

  #enclosingBefore(piece: number, indent: number): string | undefined {
    if (indent === 0 || piece === 0) return undefined;
    const known = this.#outer[piece] ?? new Map<number, string | undefined>();
    this.#outer[piece] = known;
    if (known.has(indent)) return known.get(indent);
    const found = this.#pieces[piece - 1]?.enclosures.behind(indent);
    const name = typeof found === "number" ? this.#enclosingBefore(piece - 1, found) : found;
    known.set(indent, name);
    return name;
  }
}

/** No token goes across a line break from above: the pieces' tokens are those of the whole. */
function piecesOf(text: string): string[] {
  const pieces: string[] = [];
  let start = 0;
  let lineStart = 0;
  for (let end = text.indexOf("\n"); end >= 0; end = text.indexOf("\n", lineStart)) {
    if (end > start && (endsPiece(text, lineStart, end) || end - start > LONGEST_PIECE)) {
      pieces.push(text.slice(start, end));
      start = end;
    }
    lineStart = end + 1;
  }
  pieces.push(text.slice(start));
  return pieces;
}

function endsPiece(text: string, start: number, end: number): boolean {
  const middle = text.charCodeAt((start + end) >> 1);
  const mixed = (end - start) * 31 + middle * 7 + text.charCodeAt(Math.max(start, end - 2));
  return end > start && mixed % LINES_IN_PIECE === 0;
}
