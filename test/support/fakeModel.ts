/** A model without arithmetic: the next token follows from the tokens before it, read back through the cache's bookkeeping. */
import { BLOCK_TOKENS, PagedKv } from "../../engine/kvcache/pagedKv.ts";
import { type Model, nLogitsOf, type StepLogits, type StepPart } from "../../engine/model/model.ts";

export interface FakeModelOptions {
  vocab: number;
  contextLength?: number;
  nBlocks?: number;
  /** Most drafts of a step; none when missing. */
  nDrafts?: number;
  /** The token that follows `tokens`. */
  next: (tokens: readonly number[]) => number;
  /** Called with the shares of every step. */
  onStep?: (parts: readonly StepPart[]) => void;
}

export class FakeModel implements Model {
  readonly contextLength: number;
  readonly vocab: number;
  readonly kv: PagedKv;
  readonly kvBytes = 0;
  readonly maxStepTokens = 512;
  readonly maxStepSequences = 8;
  readonly maxStepDrafts: number;
  private readonly options: FakeModelOptions;
  private readonly rows: number[][];

  constructor(options: FakeModelOptions) {
    const nBlocks = options.nBlocks ?? 64;
    this.options = options;
    this.vocab = options.vocab;
    this.contextLength = options.contextLength ?? 2048;
    this.maxStepDrafts = options.nDrafts ?? 0;
    this.rows = Array.from({ length: nBlocks }, () => []);
    this.kv = new PagedKv(nBlocks, (dst, src) => {
      this.rows[dst] = [...(this.rows[src] ?? [])];
    });
  }

  forward(parts: readonly StepPart[]): StepLogits {
    this.options.onStep?.(parts);
    const wanted: number[] = [];
    for (const part of parts) {
      const { sequence, tokens } = part;
      for (const [i, token] of tokens.entries()) {
        const at = sequence.tokens.length + i;
        const row = this.rows[sequence.blocks[Math.floor(at / BLOCK_TOKENS)] ?? -1];
        if (row === undefined) throw new Error(`no block for position ${at}`);
        row[at % BLOCK_TOKENS] = token;
      }
      const length = sequence.tokens.length + tokens.length;
      const seen = sequence.blocks.flatMap((block) => this.rows[block] ?? []).slice(0, length);
      for (let left = nLogitsOf(part); left > 0; left--)
        wanted.push(this.options.next(seen.slice(0, length - left + 1)));
    }
    const row = (index: number) => {
      const logits = new Float32Array(this.vocab);
      logits[wanted[index] ?? 0] = 10;
      return logits;
    };
    return {
      greedy: () => ({
        ids: Int32Array.from(wanted),
        logProbs: Float32Array.from(wanted, () => -0.5),
      }),
      row,
    };
  }
}
