/**
 * Runs requests on a model, one step at a time: continuous batching, chunked prefill, preemption at step boundaries.
 *
 *   submit ─► waiting ─ admit ─► running ─ compute … ─► done | error     (cancel: done at the next step, from anywhere)
 *                 ▲                 │
 *                 └── cache full ◄──┘
 */
import { EngineError, messageOf } from "../base/errors.ts";
import type { KvSequence } from "../kvcache/pagedKv.ts";
import { type GreedyChoices, type Model, nLogitsOf, type StepLogits } from "../model/model.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import { ChunkSize, evenStepSizes } from "./chunkSize.ts";
import { Drafting, type Work } from "./drafting.ts";
import { Generation } from "./generation.ts";
import { chooseVictim, planStep } from "./planStep.ts";
import type {
  DraftCounts,
  FinishReason,
  GeneratedToken,
  GenerationEvent,
  GenerationRequest,
} from "./request.ts";
import { TokenChooser } from "./tokenChooser.ts";

/** Requests beyond this are refused as `overloaded`. */
const MAX_REQUESTS = 512;

export interface SchedulerOptions {
  model: Model;
  tokenizer: Tokenizer;
  /** Tokens of which any ends a generation. */
  ends: ReadonlySet<number>;
  /** Hears every request's events. */
  onEvent: (id: number, event: GenerationEvent) => void;
  /** Whether tokens may be guessed and verified several in a step; the answers are the same. Default true. */
  drafts?: boolean;
  /** Milliseconds from a monotonic clock. */
  now?: () => number;
}

/** A step's logits, and the first row that belongs to the generation in question. */
interface Rows {
  logits: StepLogits;
  greedy: GreedyChoices;
  row: number;
}

/** What a generation takes from a step. */
interface Taken {
  text: string;
  tokens: GeneratedToken[];
  nAccepted: number;
  finish: FinishReason | undefined;
}

export class Scheduler {
  private readonly options: SchedulerOptions;
  private readonly now: () => number;
  private readonly chunk: ChunkSize;
  private readonly chooser: TokenChooser;
  private readonly drafting: Drafting | undefined;
  private readonly live = new Map<number, Generation>();
  private readonly cancelled = new Set<number>();
  private nAccepted = 0;

  constructor(options: SchedulerOptions) {
    this.options = options;
    this.now = options.now ?? (() => performance.now());
    const { stepSizes, maxStepTokens } = options.model;
    this.chunk = new ChunkSize(stepSizes ?? evenStepSizes(maxStepTokens));
    this.chooser = new TokenChooser(options.tokenizer);
    const { model, drafts = true } = options;
    this.drafting = drafts && model.maxStepDrafts > 0 ? new Drafting(model) : undefined;
  }

  get counts(): { running: number; waiting: number } {
    let running = 0;
    for (const generation of this.live.values()) if (generation.sequence !== undefined) running++;
    return { running, waiting: this.live.size - running };
  }

  /** Of all requests so far. */
  get drafts(): DraftCounts {
    return this.drafting?.counts ?? { drafted: 0, accepted: 0 };
  }

  /** Tokens of the prompts that are computed in idle time, and how many of them are done; undefined when there are none. */
  get prefill(): { done: number; total: number } | undefined {
    let done = 0;
    let total = 0;
    for (const { request, sequence } of this.live.values()) {
      if (request.priority !== "prefill") continue;
      done += sequence?.tokens.length ?? 0;
      total += request.prompt.length;
    }
    return total === 0 ? undefined : { done, total };
  }

  /** Accepts a request, which then ends in exactly one terminal event. Throws `prompt_too_long` or `overloaded`. */
  submit(request: GenerationRequest): void {
    const { contextLength } = this.options.model;
    if (request.prompt.length === 0)
      throw new EngineError("bad_request", "expected a prompt of at least one token, found none");
    if (request.prompt.length + Math.min(1, request.maxTokens) > contextLength) {
      throw new EngineError(
        "prompt_too_long",
        `expected a prompt of fewer than ${contextLength} tokens, found ${request.prompt.length}`,
      );
    }
    if (this.live.size >= MAX_REQUESTS) {
      throw new EngineError(
        "overloaded",
        `expected at most ${MAX_REQUESTS} requests at a time, found one more`,
      );
    }
    const { tokenizer, ends } = this.options;
    const model = { tokenizer, ends, contextLength };
    this.live.set(request.id, new Generation(request, this.nAccepted++, model, this.now()));
  }

  /** Ends a request at the next step. Unknown ids (already ended) are ignored. */
  cancel(id: number): void {
    if (this.live.has(id)) this.cancelled.add(id);
  }

  /** Does one step; false when there was nothing to do. Throws `device` when the device failed: no later step succeeds. */
  step(): boolean {
    this.endCancelled();
    const work = this.prepare();
    if (work === undefined) return false;
    if (work.length === 0) return true;
    const startedAt = this.now();
    try {
      this.compute(work);
    } catch (error) {
      if (EngineError.is(error, "device")) throw error;
      for (const { generation } of work) this.fail(generation, error);
    }
    const ms = this.now() - startedAt;
    this.chunk.observe(nTokensOf(work), ms);
    this.drafting?.observe(work, ms);
    return true;
  }

  private endCancelled(): void {
    for (const id of this.cancelled) {
      const generation = this.live.get(id);
      if (generation !== undefined) this.finish(generation, "", "cancelled");
    }
    this.cancelled.clear();
  }

  /** Carries out the plan up to the computation: undefined when idle, empty when requests were only admitted. */
  private prepare(): Work[] | undefined {
    if (this.live.size === 0) return undefined;
    const { model } = this.options;
    const ready = [...this.live.values()].filter((generation) => !this.waitsForPrompt(generation));
    const views = ready.map((generation) => generation.view());
    const limits = { maxTokens: this.chunk.tokens, maxSequences: model.maxStepSequences };
    const work: Work[] = [];
    for (const action of planStep(views, limits)) {
      const generation = this.live.get(action.id);
      if (generation === undefined) continue;
      if (action.type === "admit") generation.admit(this.rowsFor(generation), this.now());
      else this.addWork(work, generation, action.nTokens);
    }
    this.drafting?.addTo(work);
    return work;
  }

  /** Whether it shares the prompt of another one that is not computed yet. */
  private waitsForPrompt({ request, sequence }: Generation): boolean {
    if (sequence !== undefined || request.forkOf === undefined) return false;
    const first = this.live.get(request.forkOf);
    return first !== undefined && !first.hasPrompt;
  }

  private rowsFor({ request, tokens }: Generation): KvSequence {
    const { kv } = this.options.model;
    const first = request.forkOf === undefined ? undefined : this.live.get(request.forkOf);
    const shared = first?.sequence;
    if (shared !== undefined && tokens.length === request.prompt.length) {
      const fork = kv.fork(shared, tokens.length - 1);
      if (fork !== undefined) return fork;
    }
    return kv.acquire(tokens);
  }

  /** Adds a share of the step, when the cache has room for it; a request for which others make no room waits. */
  private addWork(work: Work[], generation: Generation, nTokens: number): void {
    const { sequence } = generation;
    if (sequence === undefined) return;
    const { kv } = this.options.model;
    const start = sequence.tokens.length;
    const computing = new Set([...work.map((w) => w.generation.request.id), generation.request.id]);
    while (!kv.reserve(sequence, start + nTokens)) {
      const victim = chooseVictim(
        [...this.live.values()].map((g) => g.view()),
        computing,
      );
      const holder = victim === undefined ? undefined : this.live.get(victim);
      if (holder === undefined) return;
      this.releaseRows(holder);
    }
    const tokens = generation.tokens.slice(start, start + nTokens);
    const isLast = start + nTokens === generation.tokens.length;
    work.push({
      generation,
      part: { sequence, tokens, wantsLogits: isLast && generation.request.maxTokens > 0 },
    });
  }

  private compute(work: readonly Work[]): void {
    const logits = this.options.model.forward(work.map((w) => w.part));
    const greedy = work.some((w) => w.part.wantsLogits) ? logits.greedy() : undefined;
    let row = 0;
    for (const item of work) {
      this.advance(item, greedy && { logits, greedy, row });
      row += nLogitsOf(item.part);
    }
  }

  /** Takes what the step gives a generation: the rows of its tokens and, of its drafts, of those that were right. */
  private advance(item: Work, rows: Rows | undefined): void {
    const { generation, part } = item;
    const { kv } = this.options.model;
    const nSure = part.tokens.length - (part.nDrafts ?? 0);
    const taken =
      rows !== undefined && part.wantsLogits
        ? this.take(generation, part.tokens.slice(nSure), rows)
        : undefined;
    kv.commit(part.sequence, part.tokens.slice(0, nSure + (taken?.nAccepted ?? 0)));
    this.pinPrompt(generation);
    if (taken === undefined) {
      if (generation.request.maxTokens === 0 && generation.view().nPending === 0)
        this.finish(generation, "", "limit");
      return;
    }
    this.drafting?.verified(item, taken.nAccepted, taken.finish !== undefined);
    const { text, tokens, finish } = taken;
    if (text !== "" || tokens.length > 0) {
      const prompt = generation.prompt(this.now());
      this.options.onEvent(generation.request.id, { type: "delta", text, tokens, prompt });
    }
    if (finish !== undefined) this.finish(generation, "", finish);
  }

  /** Chooses tokens row by row as if each were a step of its own, up to the first that is not the draft's. */
  private take(generation: Generation, drafts: readonly number[], rows: Rows): Taken {
    const taken: Taken = { text: "", tokens: [], nAccepted: 0, finish: undefined };
    for (;;) {
      const draft = drafts[taken.nAccepted];
      const { logits, greedy, row } = rows;
      const token = this.chooser.choose(generation, logits, greedy, row + taken.nAccepted);
      const { text, token: reported, finish } = generation.accept(token, this.now());
      taken.text += text;
      if (reported !== undefined) taken.tokens.push(reported);
      taken.finish = finish;
      if (finish !== undefined || token.id !== draft) return taken;
      taken.nAccepted++;
    }
  }

  /** Keeps the rows of a prompt that asks for it; full blocks are in the tree as soon as they are computed. */
  private pinPrompt({ request, sequence }: Generation): void {
    const { pin, prompt } = request;
    if (pin === undefined || sequence?.tokens.length !== prompt.length) return;
    this.options.model.kv.pin(pin.key, prompt.slice(0, pin.nTokens));
  }

  private finish(generation: Generation, text: string, finish: FinishReason): void {
    this.end(generation, { type: "done", text, result: generation.result(finish, this.now()) });
  }

  private fail(generation: Generation, error: unknown): void {
    const code = EngineError.is(error) ? error.code : "internal";
    this.end(generation, { type: "error", code, message: messageOf(error) });
  }

  private end(generation: Generation, event: GenerationEvent): void {
    if (!this.live.delete(generation.request.id)) return;
    this.releaseRows(generation);
    this.options.onEvent(generation.request.id, event);
  }

  private releaseRows(generation: Generation): void {
    if (generation.sequence === undefined) return;
    this.options.model.kv.release(generation.sequence);
    generation.sequence = undefined;
  }
}

function nTokensOf(work: readonly Work[]): number {
  return work.reduce((sum, { part }) => sum + part.tokens.length, 0);
}
