/** Chooses a token from logits: temperature, top-k, top-p and a seed. Greedy choice is the backend's. */

export interface SamplingParams {
  /** 0: greedy. */
  temperature: number;
  /** 0: all. */
  topK: number;
  /** 1: all. */
  topP: number;
  seed: number;
}

/** A token and its natural-log probability under the raw logits. */
export interface TokenChoice {
  id: number;
  logProb: number;
}

/** Uniform numbers in [0, 1) from a 32-bit seed (mulberry32): the same seed gives the same text. */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** ln Σ exp(logits), without overflow. logits (vocab). */
function logSumExp(logits: Float32Array): number {
  let max = Number.NEGATIVE_INFINITY;
  for (const value of logits) if (value > max) max = value;
  let sum = 0;
  for (const value of logits) sum += Math.exp(value - max);
  return max + Math.log(sum);
}

/** The `k` most likely tokens, most likely first (ties: the lowest id). logits (vocab). */
export function topTokens(logits: Float32Array, k: number): TokenChoice[] {
  const norm = logSumExp(logits);
  const ids = Array.from(logits.keys());
  ids.sort((a, b) => (logits[b] ?? 0) - (logits[a] ?? 0) || a - b);
  return ids.slice(0, k).map((id) => ({ id, logProb: (logits[id] ?? 0) - norm }));
}

/** Draws a token: top-k first, then the smallest set whose probability at `temperature` reaches top-p. */
export function sampleToken(
  logits: Float32Array,
  params: SamplingParams,
  random: () => number,
): TokenChoice {
  const { temperature, topK, topP } = params;
  const candidates = topTokens(logits, topK > 0 ? topK : logits.length);
  const best = candidates[0]?.logProb ?? 0;
  const weights = candidates.map((c) => Math.exp((c.logProb - best) / temperature));
  const total = weights.reduce((sum, w) => sum + w, 0);
  let kept = 0;
  let keptWeight = 0;
  while (kept < weights.length && (kept === 0 || keptWeight < topP * total))
    keptWeight += weights[kept++] ?? 0;
  let at = random() * keptWeight;
  for (let i = 0; i < kept; i++) {
    at -= weights[i] ?? 0;
    const choice = candidates[i];
    if (at < 0 && choice !== undefined) return choice;
  }
  return candidates[0] ?? { id: 0, logProb: Number.NEGATIVE_INFINITY };
}
