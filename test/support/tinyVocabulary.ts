/** A small vocabulary of architecture `tidepool`: the eight special tokens, all bytes, and merges of common words. */
import type { WriterValue } from "./ggufWriter.ts";

export const specialTokens = [
  "<｜begin▁of▁sentence｜>",
  "<｜end▁of▁sentence｜>",
  "<｜fim▁begin｜>",
  "<｜fim▁hole｜>",
  "<｜fim▁end｜>",
  "<｜User｜>",
  "<｜Assistant｜>",
  "<｜pad｜>",
] as const;

const words = ["Ġreturn", "Ġfunction", "Ġconst", "ĠĠĠĠ", "self", "import", "Ġ==", "Ã©"];

/** The byte alphabet of GPT-2, written out again here so that the engine's own is not tested against itself. */
function alphabet(): string[] {
  const chars: string[] = [];
  let next = 256;
  for (let byte = 0; byte < 256; byte++) {
    const plain = (byte > 32 && byte < 127) || (byte > 160 && byte !== 173);
    chars.push(String.fromCharCode(plain ? byte : next++));
  }
  return chars;
}

/** Metadata keys `tokenizer.ggml.*`, and the number of tokens. */
export function tinyVocabulary(): { metadata: Record<string, WriterValue>; nTokens: number } {
  const tokens: string[] = [...specialTokens, ...alphabet()];
  const merges: string[] = [];
  for (const word of words) {
    for (let end = 2; end <= word.length; end++) {
      const token = word.slice(0, end);
      if (tokens.includes(token)) continue;
      tokens.push(token);
      merges.push(`${token.slice(0, -1)} ${token.slice(-1)}`);
    }
  }
  return {
    metadata: {
      "tokenizer.ggml.model": { string: "gpt2" },
      "tokenizer.ggml.pre": { string: "tidepool" },
      "tokenizer.ggml.tokens": { strings: tokens },
      "tokenizer.ggml.token_type": {
        i32s: tokens.map((_, id) => (id < specialTokens.length ? 3 : 1)),
      },
      "tokenizer.ggml.merges": { strings: merges },
      "tokenizer.ggml.bos_token_id": { u32: 0 },
      "tokenizer.ggml.eos_token_id": { u32: 1 },
    },
    nTokens: tokens.length,
  };
}
