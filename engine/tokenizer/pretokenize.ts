/**
 * How text is cut into words before merging, by the name in `tokenizer.ggml.pre`.
 * White space is Unicode's property, not JavaScript's `\s`, which differs at U+0085 and U+FEFF.
 */

export const preTokenizerNames = ["tidepool", "deepseek-llm", "deepseek-coder", "qwen2"] as const;
export type PreTokenizerName = (typeof preTokenizerNames)[number];

/** Expressions applied one after the other: each cuts the pieces of the one before; what lies between matches stays a piece. */
const steps: Record<PreTokenizerName, readonly RegExp[]> = {
  tidepool: [
    expression(
      String.raw`[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|[\r\n]|[^\S\r\n]+(?!\S)|[^\S\r\n]+`,
    ),
  ],
  // The published letter list is the cased letters without Georgian Mkhedruli, which became cased in Unicode 11.
  "deepseek-llm": [
    expression(String.raw`[\r\n]`),
    expression(String.raw`\s?(?:(?![\u10D0-\u10FF])\p{LC})+`),
    expression(String.raw`\s?[!-\/:-~！-／：-～‘-‟\u3000-。]+`),
    expression(String.raw`\s+$`),
    expression(String.raw`[\u4E00-\u9FA5\u0800-\u4E00\uAC00-\uD7FF]+`),
    expression(String.raw`\p{N}+`),
  ],
  "deepseek-coder": [
    expression(String.raw`[\r\n]`),
    expression(String.raw`\s?\p{L}+`),
    expression(String.raw`\s?\p{P}+`),
    expression(String.raw`[\u4E00-\u9FA5\u0800-\u4E00\uAC00-\uD7FF]+`),
    expression(String.raw`\p{N}`),
  ],
  qwen2: [
    expression(
      String.raw`'(?:[sStTmMdD]|[rR][eE]|[vV][eE]|[lL][lL])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`,
    ),
  ],
};

/** Compiles an expression in which `\s` and `\S` mean Unicode white space. */
function expression(source: string): RegExp {
  const inSet = source
    .replaceAll(String.raw`[^\S\r\n]`, String.raw`(?:(?![\r\n])\p{White_Space})`)
    .replaceAll(String.raw`\s`, String.raw`\p{White_Space}`)
    .replaceAll(String.raw`\S`, String.raw`\P{White_Space}`);
  return new RegExp(inSet, "gu");
}

/** Cuts `text` into pieces that together are the text again. */
export function pretokenize(text: string, name: PreTokenizerName): string[] {
  let pieces = text.length === 0 ? [] : [text];
  for (const step of steps[name])
    pieces = pieces.length === 1 ? split(text, step) : pieces.flatMap((p) => split(p, step));
  return pieces;
}

function split(piece: string, step: RegExp): string[] {
  const parts: string[] = [];
  let end = 0;
  for (const match of piece.matchAll(step)) {
    if (match.index > end) parts.push(piece.slice(end, match.index));
    parts.push(match[0]);
    end = match.index + match[0].length;
  }
  if (end < piece.length) parts.push(piece.slice(end));
  return parts;
}
