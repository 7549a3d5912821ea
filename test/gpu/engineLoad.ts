/**
 * What an engine must stand: many requests that are all cancelled, and two streams beside a long prompt. Runs any model;
 * at full size on a GPU by `npm run test:gpu`, small on the emulated one by test/e2e/engineLoad.test.ts.
 */
import { integrityProblems } from "../../engine/kvcache/integrity.ts";
import type { Model } from "../../engine/model/model.ts";
import { seededRandom } from "../../engine/sampling/sampler.ts";
import type { GenerationEvent } from "../../engine/scheduler/request.ts";
import { Scheduler } from "../../engine/scheduler/scheduler.ts";
import type { Tokenizer } from "../../engine/tokenizer/tokenizer.ts";

export interface LoadedModel {
  model: Model;
  /** Whose tokens stand for the model's: a token's id is taken modulo its vocabulary. */
  tokenizer: Tokenizer;
  /** Of the device. */
  freeBytes: () => number;
}

export interface CancelSizes {
  requests: number;
  /** Requests that live at a time. */
  together: number;
  longestPrompt: number;
  /** A request is cancelled after fewer steps than this, at random, before any could end by itself. */
  steps: number;
}

export interface CancelReport {
  /** What is wrong afterwards, a line each. */
  problems: string[];
  /** Requests that had streamed a token when they were cancelled; the others waited or read their prompt. */
  streamed: number;
}

export interface StreamSizes {
  /** Tokens of a stream's prompt, which is one more than whole blocks of the cache, and of its answer. */
  prompt: number;
  answer: number;
  /** Of the prompt that is read beside the streams. */
  longPrompt: number;
}

export interface StreamReport {
  /** The longest time between two tokens of each stream beside the long prompt, and alone. */
  gapMs: number[];
  aloneGapMs: number[];
  equalAnswers: boolean;
  /** Tokens of the long prompt that were read when the last stream ended, and what all of it took. */
  readBeside: number;
  longPromptMs: number;
}

interface Heard {
  events: GenerationEvent[];
  times: number[];
}

const GREEDY = { temperature: 0, topK: 0, topP: 1, seed: 0 };

/** A scheduler on the model that keeps what each request hears, and when. */
class Run {
  readonly scheduler: Scheduler;
  private readonly heard = new Map<number, Heard>();

  constructor({ model, tokenizer }: LoadedModel) {
    const forward: Model["forward"] = (parts) => {
      const logits = model.forward(parts);
      return {
        row: (index) => logits.row(index),
        greedy: () => {
          const { ids, logProbs } = logits.greedy();
          return { ids: ids.map((id) => id % tokenizer.nTokens), logProbs };
        },
      };
    };
    this.scheduler = new Scheduler({
      model: Object.create(model, { forward: { value: forward } }) as Model,
      ...{ tokenizer, ends: new Set<number>() },
      onEvent: (id, event) => {
        const { events, times } = this.of(id);
        events.push(event);
        times.push(performance.now());
      },
    });
  }

  submit(id: number, prompt: readonly number[], maxTokens: number): void {
    this.heard.set(id, { events: [], times: [] });
    this.scheduler.submit({
      ...{ id, prompt, maxTokens, stop: [], nTop: 0, sampling: GREEDY, priority: "completion" },
    });
  }

  finish(): void {
    while (this.scheduler.step());
  }

  hasEnded(id: number): boolean {
    return this.of(id).events.some(({ type }) => type !== "delta");
  }

  /** Tokens that were streamed, and how the request ended: a reason for each terminal event. */
  answer(id: number): { tokens: number[]; text: string; ends: string[] } {
    const { events } = this.of(id);
    return {
      tokens: events.flatMap((e) => (e.type === "delta" ? e.tokens.map((token) => token.id) : [])),
      text: events.map((e) => (e.type === "error" ? "" : e.text)).join(""),
      ends: events.flatMap((e) => {
        if (e.type === "delta") return [];
        return [e.type === "done" ? e.result.finish : e.message];
      }),
    };
  }

  /** Longest time between two deltas of a request. */
  longestGap(id: number): number {
    const { events, times } = this.of(id);
    const deltas = times.filter((_, i) => events[i]?.type === "delta");
    return Math.max(...deltas.slice(1).map((at, i) => at - (deltas[i] ?? at)));
  }

  private of(id: number): Heard {
    const heard = this.heard.get(id);
    if (heard === undefined) throw new Error(`an event of request ${id}, which does not exist`);
    return heard;
  }
}

/**
 * Submits requests of which each is cancelled at a random time: waiting, while its prompt is read, while it decodes.
 * Finds an end that is missing or no cancellation, cache blocks and sequences that are still held, device memory that
 * is gone.
 */
export function cancelMany(loaded: LoadedModel, sizes: CancelSizes, seed: number): CancelReport {
  const freeBefore = loaded.freeBytes();
  const run = new Run(loaded);
  cancelAll(run, sizes, loaded.model.maxStepDrafts, seed);
  const problems = [...integrityProblems(loaded.model.kv), ...leftBy(run, loaded)];
  const answers = Array.from({ length: sizes.requests }, (_, id) => run.answer(id));
  for (const [id, { ends }] of answers.entries())
    if (ends.join() !== "cancelled") problems.push(`request ${id} ended with "${ends.join()}"`);
  const goneBytes = freeBefore - loaded.freeBytes();
  if (goneBytes !== 0) problems.push(`${goneBytes} bytes of device memory are gone`);
  return { problems, streamed: answers.filter(({ tokens }) => tokens.length > 0).length };
}

function cancelAll(run: Run, sizes: CancelSizes, nDrafts: number, seed: number): void {
  const random = seededRandom(seed);
  const below = (n: number) => Math.floor(random() * n);
  const live = new Map<number, number>();
  for (let next = 0; next < sizes.requests || live.size > 0; ) {
    const isNew = live.size < sizes.together && next < sizes.requests;
    while (live.size < sizes.together && next < sizes.requests) {
      // Few beginnings, so that requests share blocks of the cache and part in them.
      const prompt = tokensOf(1 + below(sizes.longestPrompt), below(4), below(1000));
      run.submit(next, prompt, 2 * sizes.steps * (nDrafts + 1));
      live.set(next++, below(sizes.steps));
    }
    for (const [id, stepsLeft] of live) {
      live.set(id, stepsLeft - 1);
      if (stepsLeft > 0) continue;
      run.scheduler.cancel(id);
      live.delete(id);
    }
    // A step with new requests only admits them.
    if (isNew) run.scheduler.step();
    run.scheduler.step();
  }
  run.finish();
}

function leftBy(run: Run, { model: { kv } }: LoadedModel): string[] {
  const { running, waiting } = run.scheduler.counts;
  const counts = {
    requests: running + waiting,
    "blocks of the cache": kv.stats().blocksUsed,
    sequences: kv.sequences.size,
  };
  return Object.entries(counts).flatMap(([what, n]) => (n > 0 ? [`${n} ${what} are left`] : []));
}

/**
 * Two clients that stream, each alone and then together while a third one's prompt is read, all equally urgent. The
 * streams' prompts are in the cache but for their last token, so that both ways decode the same tokens behind the same
 * rows.
 */
export function streamBesidePrompt(loaded: LoadedModel, sizes: StreamSizes): StreamReport {
  const prompts = [tokensOf(sizes.prompt, 5, 1), tokensOf(sizes.prompt, 6, 2)];
  const run = new Run(loaded);
  for (const [i, prompt] of prompts.entries()) {
    run.submit(100 + i, prompt.slice(0, -1), 0);
    run.finish();
    run.submit(i, prompt, sizes.answer);
    run.finish();
  }
  for (const [i, prompt] of prompts.entries()) run.submit(10 + i, prompt, sizes.answer);
  run.scheduler.step();
  const longId = 20;
  const startedAt = performance.now();
  run.submit(longId, tokensOf(sizes.longPrompt, 7, 3), 1);
  const streams = prompts.map((_, i) => 10 + i);
  while (streams.some((id) => !run.hasEnded(id)) && run.scheduler.step());
  const reading = [...loaded.model.kv.sequences].map(({ tokens }) => tokens.length);
  const readBeside = run.hasEnded(longId) ? sizes.longPrompt : Math.max(0, ...reading);
  run.finish();
  const longPromptMs = performance.now() - startedAt;
  const ends = [...streams, longId].map((id) => run.answer(id).ends.join());
  if (ends.some((end) => end !== "limit"))
    throw new Error(`expected all three requests to end at their limit, found ${ends.join("; ")}`);
  const equal = prompts.map((_, i) => {
    const [alone, beside] = [run.answer(i), run.answer(10 + i)];
    const same = alone.tokens.join() === beside.tokens.join() && alone.text === beside.text;
    return same && alone.tokens.length === sizes.answer;
  });
  return {
    gapMs: streams.map((id) => run.longestGap(id)),
    aloneGapMs: prompts.map((_, i) => run.longestGap(i)),
    equalAnswers: equal.every(Boolean),
    ...{ readBeside, longPromptMs },
  };
}

/** Tokens below 256 that begin as `head` says, for a third of them, and go on as `tail` does. */
function tokensOf(n: number, head: number, tail: number): number[] {
  return Array.from({ length: n }, (_, i) =>
    3 * i < n ? (i * (2 * head + 3) + head) % 251 : (i * (2 * tail + 5) + tail * 17) % 253,
  );
}
