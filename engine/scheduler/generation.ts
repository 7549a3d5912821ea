/** One request on its way: its tokens, its text so far, and why it ended. Knows no model. */
import { Drafter } from "../drafts/drafter.ts";
import type { KvSequence } from "../kvcache/pagedKv.ts";
import { seededRandom } from "../sampling/sampler.ts";
import { StreamDecoder, type Tokenizer } from "../tokenizer/tokenizer.ts";
import type { RequestView } from "./planStep.ts";
import type {
  FinishReason,
  GeneratedToken,
  GenerationRequest,
  GenerationResult,
  PromptFigures,
} from "./request.ts";
import { StopStrings } from "./stopStrings.ts";

interface Accepted {
  text: string;
  token: GeneratedToken | undefined;
  finish: FinishReason | undefined;
}

/** What a generation needs to know of its model. */
interface GenerationModel {
  tokenizer: Tokenizer;
  /** Tokens of which any ends it. */
  ends: ReadonlySet<number>;
  contextLength: number;
}

export class Generation {
  readonly request: GenerationRequest;
  /** Prompt and generated tokens. */
  readonly tokens: number[];
  readonly random: () => number;
  /** Tokens that were guessed and verified, and how many of them were right. */
  readonly drafts = { drafted: 0, accepted: 0 };
  /** Rows in the cache while it runs. */
  sequence: KvSequence | undefined;
  private readonly order: number;
  private readonly ends: ReadonlySet<number>;
  private readonly tokenizer: Tokenizer;
  private readonly decoder: StreamDecoder;
  private readonly stops: StopStrings;
  private readonly arrivedAt: number;
  private admittedAt: number | undefined;
  private firstTokenAt: number | undefined;
  private cachedTokens = 0;
  private unforced: Uint8Array;
  private nReported = 0;
  private copies: Drafter | undefined;
  private readonly contextLength: number;

  constructor(request: GenerationRequest, order: number, model: GenerationModel, now: number) {
    this.request = request;
    this.tokens = [...request.prompt];
    this.order = order;
    this.ends = model.ends;
    this.tokenizer = model.tokenizer;
    this.contextLength = model.contextLength;
    this.unforced = request.forced ?? new Uint8Array(0);
    this.random = seededRandom(request.sampling.seed);
    this.decoder = new StreamDecoder(model.tokenizer);
    this.stops = new StopStrings(request.stop);
    this.arrivedAt = now;
  }

  /** Whether the first token of the answer is still to be chosen. */
  get isAtStart(): boolean {
    return this.nReported === 0;
  }

  /** Most tokens that may follow the next one. */
  get nAfterNext(): number {
    const left = this.request.maxTokens - this.nReported;
    return Math.max(0, Math.min(left, this.contextLength - this.tokens.length) - 1);
  }

  /** Guesses from its own tokens. */
  get drafter(): Drafter {
    this.copies ??= new Drafter(this.tokens, this.ends);
    return this.copies;
  }

  /** Bytes that the next tokens must begin with. */
  get remaining(): Uint8Array {
    return this.unforced;
  }

  /** Whether the prompt's rows but the last are stored, so that another generation may share them. */
  get hasPrompt(): boolean {
    return (this.sequence?.tokens.length ?? 0) >= this.request.prompt.length - 1;
  }

  view(): RequestView {
    return {
      id: this.request.id,
      priority: this.request.priority,
      order: this.order,
      isRunning: this.sequence !== undefined,
      nPending: this.tokens.length - (this.sequence?.tokens.length ?? 0),
    };
  }

  /** Takes cache rows; the first time, what they hold already counts as cached. */
  admit(sequence: KvSequence, now: number): void {
    this.sequence = sequence;
    if (this.admittedAt !== undefined) return;
    this.admittedAt = now;
    this.cachedTokens = sequence.tokens.length;
  }

  /**
   * Takes the next token; `text` may be shown now, and `finish` says that it was the last.
   * A token that only repeats forced text is not reported: `token` is undefined.
   */
  accept(token: GeneratedToken, now: number): Accepted {
    this.firstTokenAt ??= now;
    if (this.ends.has(token.id)) return { text: this.flush(), token: undefined, finish: "eos" };
    this.tokens.push(token.id);
    const bytes = this.tokenizer.tokenBytes(token.id);
    const nForced = Math.min(bytes.length, this.unforced.length);
    this.unforced = this.unforced.subarray(nForced);
    const pushed = this.decoder.pushBytes(bytes.subarray(nForced));
    const { text, stopped } = this.stops.push(pushed);
    const reported =
      nForced === 0 ? token : nForced < bytes.length ? { ...token, text: pushed } : undefined;
    if (stopped) return { text, token: reported, finish: "word" };
    if (reported !== undefined) this.nReported++;
    if (this.nReported >= this.request.maxTokens || this.isFull)
      return { text: text + this.flush(), token: reported, finish: "limit" };
    return { text, token: reported, finish: undefined };
  }

  prompt(now: number): PromptFigures {
    const admittedAt = this.admittedAt ?? now;
    return {
      promptTokens: this.request.prompt.length,
      cachedTokens: this.cachedTokens,
      queueMs: admittedAt - this.arrivedAt,
      promptMs: (this.firstTokenAt ?? now) - admittedAt,
    };
  }

  result(finish: FinishReason, now: number): GenerationResult {
    const predictedMs = now - (this.firstTokenAt ?? now);
    return { finish, ...this.prompt(now), predictedMs, drafts: { ...this.drafts } };
  }

  private get isFull(): boolean {
    return this.tokens.length >= this.contextLength;
  }

  private flush(): string {
    const { text, stopped } = this.stops.push(this.decoder.end());
    return stopped ? text : text + this.stops.end();
  }
}
