/** The model without scheduler, thread and HTTP: what every layer above it is compared with. */

import { EngineError } from "../base/errors.ts";
import type { KvSequence } from "../kvcache/pagedKv.ts";
import type { Model } from "../model/model.ts";

/** Computes the tokens of `prompt` that `sequence` lacks, in the largest steps; gives the token that follows greedily. */
export function prefill(model: Model, sequence: KvSequence, prompt: readonly number[]): number {
  let next = 0;
  while (sequence.tokens.length < prompt.length) {
    const at = sequence.tokens.length;
    const tokens = prompt.slice(at, at + model.maxStepTokens);
    next = modelStep(model, sequence, tokens, at + tokens.length === prompt.length);
  }
  return next;
}

/**
 * Milliseconds of each of `nSteps` greedy steps after `prompt`. What the cache holds of the prompt is used.
 * `onPrompt` is called between the prompt and the first step.
 */
export function decodeTimes(
  model: Model,
  prompt: readonly number[],
  nSteps: number,
  onPrompt: () => void = () => undefined,
): number[] {
  const sequence = model.kv.acquire(prompt);
  try {
    let token = prefill(model, sequence, prompt);
    onPrompt();
    return Array.from({ length: nSteps }, () => {
      const startedAt = performance.now();
      token = modelStep(model, sequence, [token], true);
      return performance.now() - startedAt;
    });
  } finally {
    model.kv.release(sequence);
  }
}

/** One step of one sequence; the greedy token after it, or 0 when its logits are not wanted. */
export function modelStep(
  model: Model,
  sequence: KvSequence,
  tokens: readonly number[],
  wantsLogits: boolean,
): number {
  if (!model.kv.reserve(sequence, sequence.tokens.length + tokens.length))
    throw new EngineError("out_of_memory", "expected a free cache block, found none");
  const logits = model.forward([{ sequence, tokens, wantsLogits }]);
  const token = wantsLogits ? logits.greedy().ids[0] : 0;
  model.kv.commit(sequence, tokens);
  if (token === undefined) throw new EngineError("internal", "expected a token, found none");
  return token;
}
