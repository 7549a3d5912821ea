/** Which prompt form a model was trained on, and the ids of the special tokens that the form is built from. */
import type { GgufFile } from "../loader/gguf.ts";
import { modelError } from "../loader/metadata.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";

/**
 * `tidepool`: suffix first (docs/model.md). `deepseek`: prefix, suffix, middle, files under `#path` headers.
 * `qwen`: the same order with Qwen's tokens, files under `repo_name` and `file_sep`.
 */
export type PromptLayout = "tidepool" | "deepseek" | "qwen";

export interface FimTokens {
  layout: PromptLayout;
  /** Begins every prompt; Qwen has none. */
  bos: number | undefined;
  /** Any of these ends a generation. */
  ends: ReadonlySet<number>;
  begin: number;
  hole: number;
  end: number;
  /** Qwen's tokens before the repository's name and before each file's path. */
  repository?: { name: number; file: number };
}

/** Looks the tokens up by their written form; throws `bad_model` when the vocabulary has no infilling tokens. */
export function findFimTokens(gguf: GgufFile, tokenizer: Tokenizer): FimTokens {
  const id = (text: string) => {
    const found = tokenizer.specialId(text);
    if (found === undefined) throw modelError(gguf, `expected a special token ${text}, found none`);
    return found;
  };
  if (tokenizer.specialId("<|fim_prefix|>") !== undefined) return qwenTokens(id);
  const eos = id("<｜end▁of▁sentence｜>");
  return {
    layout: gguf.metadata.get("general.architecture") === "tidepool" ? "tidepool" : "deepseek",
    bos: id("<｜begin▁of▁sentence｜>"),
    ends: new Set([eos]),
    begin: id("<｜fim▁begin｜>"),
    hole: id("<｜fim▁hole｜>"),
    end: id("<｜fim▁end｜>"),
  };
}

/** What Qwen writes after a middle: besides its end token, the start of another file or of padding. */
function qwenTokens(id: (text: string) => number): FimTokens {
  const repository = { name: id("<|repo_name|>"), file: id("<|file_sep|>") };
  const ends = ["<|endoftext|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>"].map(id);
  return {
    layout: "qwen",
    bos: undefined,
    ends: new Set(ends),
    begin: id("<|fim_prefix|>"),
    hole: id("<|fim_suffix|>"),
    end: id("<|fim_middle|>"),
    repository,
  };
}
