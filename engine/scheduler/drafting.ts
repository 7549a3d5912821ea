/** Puts drafts into steps, and learns what they cost and how often they are right. The answers do not depend on it. */
import type { Draft } from "../drafts/drafter.ts";
import { draftLength } from "../drafts/draftLength.ts";
import { StepCost } from "../drafts/stepCost.ts";
import type { Model, StepPart } from "../model/model.ts";
import type { Generation } from "./generation.ts";
import type { DraftCounts } from "./request.ts";

/** A generation's share of a step. */
export interface Work {
  generation: Generation;
  part: StepPart;
  /** Its guess, of which the part holds the first `part.nDrafts` tokens. */
  draft?: Draft;
}

export class Drafting {
  /** Of all generations so far. */
  readonly counts: DraftCounts = { drafted: 0, accepted: 0 };
  private readonly model: Model;
  private readonly cost = new StepCost();

  constructor(model: Model) {
    this.model = model;
  }

  /** Adds drafts where a generation computes its last token and the step then gives more tokens per time. */
  addTo(work: Work[]): void {
    const { maxStepTokens, maxStepDrafts } = this.model;
    let nTokens = work.reduce((sum, { part }) => sum + part.tokens.length, 0);
    let nExpected = work.filter(({ part }) => part.wantsLogits).length;
    let room = Math.min(maxStepDrafts, maxStepTokens - nTokens);
    for (const item of work) {
      const { generation, part } = item;
      if (!isDecoding(part) || room === 0) continue;
      const draft = generation.drafter.propose(Math.min(room, generation.nAfterNext));
      const wanted = draftLength(draft.chances, { nTokens, nExpected }, (n) => this.cost.of(n));
      if (wanted === 0 && draft.tokens.length > 0) this.cost.declined();
      const nDrafts = this.withBlocks(item, wanted);
      if (nDrafts === 0) continue;
      item.draft = draft;
      item.part = { ...part, tokens: [...part.tokens, ...draft.tokens.slice(0, nDrafts)], nDrafts };
      nTokens += nDrafts;
      for (const chance of draft.chances.slice(0, nDrafts)) nExpected += chance;
      room -= nDrafts;
    }
  }

  /** Tells how many drafts of a share were right; when the generation has ended, the rest says nothing. */
  verified({ generation, part, draft }: Work, nAccepted: number, hasEnded: boolean): void {
    const { nDrafts = 0 } = part;
    if (draft === undefined || nDrafts === 0) return;
    generation.drafter.observe(draft, hasEnded ? nAccepted : nDrafts, nAccepted);
    for (const counts of [this.counts, generation.drafts]) {
      counts.drafted += nDrafts;
      counts.accepted += nAccepted;
    }
  }

  /** Tells what a step took. */
  observe(work: readonly Work[], ms: number): void {
    if (!work.every(({ part }) => isDecoding(part))) return;
    this.cost.observe(
      work.reduce((sum, { part }) => sum + part.tokens.length, 0),
      ms,
    );
  }

  /** How many of `wanted` drafts the cache has room for, without taking another generation's rows for a guess. */
  private withBlocks({ part: { sequence, tokens } }: Work, wanted: number): number {
    const { kv } = this.model;
    const nBefore = sequence.tokens.length + tokens.length;
    return wanted > 0 && kv.reserve(sequence, nBefore + wanted) ? wanted : 0;
  }
}

/** Whether a share computes one token, beside drafts, and chooses the next. */
function isDecoding({ tokens, nDrafts = 0, wantsLogits }: StepPart): boolean {
  return wantsLogits && tokens.length - nDrafts === 1;
}
