/**
 * A model that computes every step, but whose greedy choice is the next token of a text that is known beforehand: drafts
 * are then right where the text copies itself, whatever the weights are.
 */
import type { PagedKv } from "../kvcache/pagedKv.ts";
import { type Model, nLogitsOf, type StepLogits, type StepPart } from "../model/model.ts";

export class KnownText implements Model {
  readonly contextLength: number;
  readonly vocab: number;
  readonly kv: PagedKv;
  readonly kvBytes: number;
  readonly maxStepTokens: number;
  readonly maxStepSequences: number;
  readonly maxStepDrafts: number;
  /** What the model itself chose behind each position whose tokens before it are the text's. */
  readonly choices = new Map<number, number>();
  private readonly model: Model;
  private text: readonly number[] = [];

  constructor(model: Model) {
    this.model = model;
    this.contextLength = model.contextLength;
    this.vocab = model.vocab;
    this.kv = model.kv;
    this.kvBytes = model.kvBytes;
    this.maxStepTokens = model.maxStepTokens;
    this.maxStepSequences = model.maxStepSequences;
    this.maxStepDrafts = model.maxStepDrafts;
  }

  /** The prompt of the one sequence that is computed from now on, and the tokens that are to follow it. */
  tell(text: readonly number[]): void {
    this.text = text;
    this.choices.clear();
  }

  forward(parts: readonly StepPart[]): StepLogits {
    const logits = this.model.forward(parts);
    return {
      row: (index) => logits.row(index),
      greedy: () => {
        const { ids, logProbs } = logits.greedy();
        const positions = parts.flatMap(rowPositions);
        for (const [row, position] of positions.entries())
          if (this.followsText(parts, position)) this.choices.set(position, ids[row] ?? -1);
        return { ids: Int32Array.from(positions, (at) => this.text[at + 1] ?? 0), logProbs };
      },
    };
  }

  /** Whether the tokens of the step up to a position are the text's. */
  private followsText(parts: readonly StepPart[], position: number): boolean {
    return parts.every(({ sequence, tokens }) =>
      tokens.every((token, i) => {
        const at = sequence.tokens.length + i;
        return at > position || token === this.text[at];
      }),
    );
  }
}

/** Positions behind which a part wants logits. */
function rowPositions(part: StepPart): number[] {
  const n = nLogitsOf(part);
  const end = part.sequence.tokens.length + part.tokens.length;
  return Array.from({ length: n }, (_, i) => end - n + i);
}
