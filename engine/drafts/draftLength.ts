/** How many tokens of a draft are worth a place in the step: pure arithmetic. */

/** The rest of the step, without this draft. */
export interface StepSoFar {
  /** Tokens it computes. */
  nTokens: number;
  /** Tokens it is expected to give: one for each sequence that decodes, and drafts of others. */
  nExpected: number;
}

/**
 * The number of drafts with which the step gives most tokens per time. chances[i] is the probability that draft i and all
 * before it are accepted; `cost` of a step by its tokens, in any unit.
 */
export function draftLength(
  chances: readonly number[],
  step: StepSoFar,
  cost: (nTokens: number) => number,
): number {
  let best = 0;
  let bestRate = step.nExpected / cost(step.nTokens);
  let expected = step.nExpected;
  for (const [i, chance] of chances.entries()) {
    expected += chance;
    const rate = expected / cost(step.nTokens + i + 1);
    if (rate <= bestRate) continue;
    best = i + 1;
    bestRate = rate;
  }
  return best;
}
