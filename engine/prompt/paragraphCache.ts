import { LRUCache } from "lru-cache";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import type { PromptEncoder } from "./infillPrompt.ts";

/** Characters of text whose tokens are kept: some hundred files. */
const CAPACITY_CHARS = 2 ** 22;

/** A tokenizer that remembers the tokens of whole paragraphs: of a prompt, one keystroke changes one of them. */
export class ParagraphCache implements PromptEncoder {
  private readonly tokenizer: Tokenizer;
  private readonly known = new LRUCache<string, readonly number[]>({
    maxSize: CAPACITY_CHARS,
    sizeCalculation: (_, text) => text.length + 1,
  });

  constructor(tokenizer: Tokenizer) {
    this.tokenizer = tokenizer;
  }

  encode(text: string): readonly number[] {
    const known = this.known.get(text);
    if (known !== undefined) return known;
    const tokens = this.tokenizer.encode(text);
    this.known.set(text, tokens);
    return tokens;
  }

  lastWord(line: string): string {
    return this.tokenizer.lastWord(line);
  }
}
