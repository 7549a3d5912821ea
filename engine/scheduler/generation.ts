/** One request on its way: its tokens, its text so far, and why it ended. Knows no model. */
import type { KvSequence } from "../kvcache/pagedKv.ts";
import { seededRandom } from "../sampling/sampler.ts";
import { StreamDecoder, type Tokenizer } from "../tokenizer/tokenizer.ts";
import type { RequestView } from "./planStep.ts";
import type {
  FinishReason,
  GeneratedToken,
  GenerationRequest,
  GenerationResult,
} from "./request.ts";
import { StopStrings } from "./stopStrings.ts";

export class Generation {
  readonly request: GenerationRequest;
  /** Prompt and generated tokens. */
  readonly tokens: number[];
  readonly random: () => number;
  /** Rows in the cache while it runs. */
  sequence: KvSequence | undefined;
  private readonly order: number;
  private readonly eos: number;
  private readonly decoder: StreamDecoder;
  private readonly stops: StopStrings;
  private readonly arrivedAt: number;
  private admittedAt: number | undefined;
  private firstTokenAt: number | undefined;
  private cachedTokens = 0;

  constructor(
    request: GenerationRequest,
    order: number,
    tokenizer: Tokenizer,
    eos: number,
    now: number,
  ) {
    this.request = request;
    this.tokens = [...request.prompt];
    this.order = order;
    this.eos = eos;
    this.random = seededRandom(request.sampling.seed);
    this.decoder = new StreamDecoder(tokenizer);
    this.stops = new StopStrings(request.stop);
    this.arrivedAt = now;
  }

  get nGenerated(): number {
    return this.tokens.length - this.request.prompt.length;
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

  /** Takes the next token; `text` may be shown now, and `finish` says that it was the last. */
  accept(token: GeneratedToken, now: number): { text: string; finish: FinishReason | undefined } {
    this.firstTokenAt ??= now;
    if (token.id === this.eos) return { text: this.flush(), finish: "eos" };
    this.tokens.push(token.id);
    const { text, stopped } = this.stops.push(this.decoder.push(token.id));
    if (stopped) return { text, finish: "word" };
    if (this.nGenerated >= this.request.maxTokens)
      return { text: text + this.flush(), finish: "limit" };
    return { text, finish: undefined };
  }

  result(finish: FinishReason, now: number): GenerationResult {
    const admittedAt = this.admittedAt ?? now;
    const firstTokenAt = this.firstTokenAt ?? now;
    return {
      finish,
      promptTokens: this.request.prompt.length,
      cachedTokens: this.cachedTokens,
      queueMs: admittedAt - this.arrivedAt,
      promptMs: firstTokenAt - admittedAt,
      predictedMs: now - firstTokenAt,
    };
  }

  private flush(): string {
    const { text, stopped } = this.stops.push(this.decoder.end());
    return stopped ? text : text + this.stops.end();
  }
}
