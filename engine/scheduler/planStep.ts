/** Decides what the next step computes. Pure: what the scheduler holds goes in, actions come out. */
import type { Priority } from "../protocol/api.ts";

/** What the decision needs to know of a request. */
export interface RequestView {
  readonly id: number;
  readonly priority: Priority;
  /** Order of arrival. */
  readonly order: number;
  /** Whether it holds cache blocks. */
  readonly isRunning: boolean;
  /** Tokens that it knows and whose rows are not stored: 1 while decoding. */
  readonly nPending: number;
}

export interface StepLimits {
  /** Most tokens of a step: decides how long it takes. */
  maxTokens: number;
  maxSequences: number;
}

export type StepAction =
  /** Give the request its cached prefix. */
  | { type: "admit"; id: number }
  /** Compute the request's next `nTokens` tokens. */
  | { type: "compute"; id: number; nTokens: number };

const rank: Record<Priority, number> = { completion: 0, chat: 1, prefill: 2 };

/**
 * Only the most urgent priority present gets a step, so a keystroke waits for at most the step that runs.
 * Within it, requests that decode go before prompts, and prompts go in order of arrival, in chunks.
 */
export function planStep(requests: readonly RequestView[], limits: StepLimits): StepAction[] {
  const urgency = Math.min(...requests.map((request) => rank[request.priority]));
  const urgent = requests
    .filter((request) => rank[request.priority] === urgency)
    .sort(decodingFirst);
  const admitted: StepAction[] = urgent
    .slice(0, limits.maxSequences)
    .filter((request) => !request.isRunning)
    .map(({ id }) => ({ type: "admit", id }));
  if (admitted.length > 0) return admitted;
  const actions: StepAction[] = [];
  let room = limits.maxTokens;
  for (const { id, nPending } of urgent.slice(0, limits.maxSequences)) {
    const nTokens = Math.min(nPending, room);
    if (nTokens === 0) break;
    actions.push({ type: "compute", id, nTokens });
    room -= nTokens;
  }
  return actions;
}

function decodingFirst(a: RequestView, b: RequestView): number {
  const isDecoding = (request: RequestView) => Number(request.isRunning && request.nPending === 1);
  return isDecoding(b) - isDecoding(a) || a.order - b.order;
}

/** Who gives its blocks back when the cache is full: the least urgent, then the youngest, of those that run and do not compute now. */
export function chooseVictim(
  requests: readonly RequestView[],
  computing: ReadonlySet<number>,
): number | undefined {
  const candidates = requests.filter((request) => request.isRunning && !computing.has(request.id));
  candidates.sort((a, b) => rank[b.priority] - rank[a.priority] || b.order - a.order);
  return candidates[0]?.id;
}
