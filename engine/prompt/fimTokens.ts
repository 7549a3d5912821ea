/** Ids of the special tokens that a prompt is built from, found by their written form. */
import type { GgufFile } from "../loader/gguf.ts";
import { modelError } from "../loader/metadata.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";

export interface FimTokens {
  bos: number;
  eos: number;
  begin: number;
  hole: number;
  end: number;
}

/** Looks the tokens up; throws `bad_model` when the vocabulary lacks one. */
export function findFimTokens(gguf: GgufFile, tokenizer: Tokenizer): FimTokens {
  const id = (text: string) => {
    const found = tokenizer.specialId(text);
    if (found === undefined) throw modelError(gguf, `expected a special token ${text}, found none`);
    return found;
  };
  return {
    bos: id("<｜begin▁of▁sentence｜>"),
    eos: id("<｜end▁of▁sentence｜>"),
    begin: id("<｜fim▁begin｜>"),
    hole: id("<｜fim▁hole｜>"),
    end: id("<｜fim▁end｜>"),
  };
}
