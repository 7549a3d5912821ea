/**
 * Text to tokens and back, from the vocabulary in a GGUF file (byte-level BPE).
 * Own code rather than @huggingface/tokenizers 0.2: that one wants a tokenizer.json, decodes to strings only (bytes that are
 * no UTF-8 are lost, so a stream cannot be cut between tokens), and finds special tokens in user text.
 */
import type { GgufFile } from "../loader/gguf.ts";
import { choiceKey, modelError, numbersKey, stringsKey } from "../loader/metadata.ts";
import { MergeTable, mergeWord } from "./bpe.ts";
import { bytesOf, charFor } from "./byteAlphabet.ts";
import { type PreTokenizerName, preTokenizerNames, pretokenize } from "./pretokenize.ts";

const NORMAL = 1;
const BYTE = 6;
const MAX_CACHED_WORDS = 50_000;
const MAX_CACHED_WORD_CHARS = 64;
const utf8 = new TextEncoder();

export class Tokenizer {
  readonly nTokens: number;
  private readonly pre: PreTokenizerName;
  private readonly bytes: readonly Uint8Array[];
  private readonly special: ReadonlyMap<string, number>;
  private readonly specialIds: ReadonlySet<number>;
  private readonly byteTokens: readonly number[];
  private readonly merges: MergeTable;
  private readonly words = new Map<string, readonly number[]>();

  /** Builds the tokenizer from `gguf`'s metadata. Throws `bad_model` when a key is missing or holds something unknown. */
  constructor(gguf: GgufFile) {
    choiceKey(gguf, "tokenizer.ggml.model", ["gpt2"]);
    this.pre = choiceKey(gguf, "tokenizer.ggml.pre", preTokenizerNames);
    const tokens = stringsKey(gguf, "tokenizer.ggml.tokens");
    const types = numbersKey(gguf, "tokenizer.ggml.token_type");
    if (types !== undefined && types.length !== tokens.length) {
      throw modelError(
        gguf,
        `expected ${tokens.length} entries in tokenizer.ggml.token_type, found ${types.length}`,
      );
    }
    // Released DeepSeek vocabularies list the bytes that never occur in UTF-8 as "added" tokens; they are bytes all the same.
    const isNormal = (token: string, id: number) =>
      types === undefined || types[id] === NORMAL || types[id] === BYTE || token.length === 1;
    const ids = new Map<string, number>();
    const special = new Map<string, number>();
    this.bytes = tokens.map((token, id) => {
      const known = isNormal(token, id) ? bytesOf(token) : undefined;
      (known === undefined ? special : ids).set(token, id);
      return known ?? utf8.encode(token);
    });
    this.nTokens = tokens.length;
    this.special = special;
    this.specialIds = new Set(special.values());
    this.byteTokens = readByteTokens(gguf, ids);
    this.merges = readMerges(gguf, ids, tokens.length);
  }

  /** Id of the special token written as `text`, if the vocabulary has it. */
  specialId(text: string): number | undefined {
    return this.special.get(text);
  }

  /** Tokens of `text`. Special tokens are never recognised in it. A lone surrogate becomes U+FFFD. */
  encode(text: string): number[] {
    const out: number[] = [];
    for (const word of pretokenize(text, this.pre)) {
      for (const id of this.encodeWord(word)) out.push(id);
    }
    return out;
  }

  /** The end of `text` whose tokens may change when the text goes on: no merge crosses the start of a word. */
  lastWord(text: string): string {
    return pretokenize(text, this.pre).at(-1) ?? "";
  }

  /** Whether `id` is written by nobody but the engine. */
  isSpecial(id: number): boolean {
    return this.specialIds.has(id);
  }

  /** The bytes that token `id` stands for; a special token stands for its written form. Unknown ids have none. */
  tokenBytes(id: number): Uint8Array {
    return this.bytes[id] ?? new Uint8Array(0);
  }

  /** Text of `ids`; bytes that are no UTF-8 become U+FFFD. */
  decode(ids: readonly number[]): string {
    return Buffer.concat(ids.map((id) => this.tokenBytes(id))).toString("utf8");
  }

  private encodeWord(word: string): readonly number[] {
    const cached = this.words.get(word);
    if (cached !== undefined) return cached;
    const symbols = Array.from(utf8.encode(word), (byte) => this.byteTokens[byte] ?? 0);
    const ids = mergeWord(symbols, this.merges);
    if (word.length <= MAX_CACHED_WORD_CHARS) {
      if (this.words.size >= MAX_CACHED_WORDS) this.words.clear();
      this.words.set(word, ids);
    }
    return ids;
  }
}

/** Turns tokens into text one by one and never emits half a character. */
export class StreamDecoder {
  private readonly tokenizer: Tokenizer;
  private readonly decoder = new TextDecoder("utf-8", { ignoreBOM: true });

  constructor(tokenizer: Tokenizer) {
    this.tokenizer = tokenizer;
  }

  /** Text that `id` completes; bytes of an unfinished character wait for the next token. */
  push(id: number): string {
    return this.pushBytes(this.tokenizer.tokenBytes(id));
  }

  /** As `push`, for a token of which only `bytes` are wanted. */
  pushBytes(bytes: Uint8Array): string {
    return this.decoder.decode(bytes, { stream: true });
  }

  /** What is left: U+FFFD for an unfinished character, else nothing. */
  end(): string {
    return this.decoder.decode();
  }
}

function readByteTokens(gguf: GgufFile, ids: ReadonlyMap<string, number>): number[] {
  return Array.from({ length: 256 }, (_, byte) => {
    const id = ids.get(charFor(byte));
    if (id === undefined)
      throw modelError(gguf, `expected a token for every byte, found none for byte ${byte}`);
    return id;
  });
}

function readMerges(gguf: GgufFile, ids: ReadonlyMap<string, number>, nTokens: number): MergeTable {
  const table = new MergeTable(nTokens);
  for (const merge of stringsKey(gguf, "tokenizer.ggml.merges")) {
    const space = merge.indexOf(" ", 1);
    const left = ids.get(merge.slice(0, space));
    const right = ids.get(merge.slice(space + 1));
    const result = ids.get(merge.slice(0, space) + merge.slice(space + 1));
    if (left === undefined || right === undefined || result === undefined) {
      throw modelError(gguf, `expected merges between known tokens, found "${merge.slice(0, 60)}"`);
    }
    table.add(left, right, result);
  }
  return table;
}
