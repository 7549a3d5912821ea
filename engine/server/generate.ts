/** Runs a generation for an HTTP request and counts how it ended. */
import { EngineError } from "../base/errors.ts";
import type { GenerationInput } from "../engine.ts";
import type { EngineHandle } from "../hostedEngine.ts";
import type { GeneratedToken, GenerationEvent, GenerationResult } from "../scheduler/request.ts";

export interface RequestCounts {
  accepted: number;
  finished: number;
  cancelled: number;
  failed: number;
}

export interface Generated {
  text: string;
  tokens: GeneratedToken[];
  result: GenerationResult;
}

export class Generations {
  readonly counts: RequestCounts = { accepted: 0, finished: 0, cancelled: 0, failed: 0 };
  private readonly engine: EngineHandle;
  private readonly onChange: () => void;

  /** `onChange` is called when a request begins or ends. */
  constructor(engine: EngineHandle, onChange: () => void) {
    this.engine = engine;
    this.onChange = onChange;
  }

  get nLive(): number {
    const { accepted, finished, cancelled, failed } = this.counts;
    return accepted - finished - cancelled - failed;
  }

  /** Starts a generation; the result cancels it, and does nothing once it has ended. Exactly one terminal event is counted. */
  start(input: GenerationInput, onEvent: (event: GenerationEvent) => void): () => void {
    this.counts.accepted++;
    this.onChange();
    let hasEnded = false;
    const cancel = this.engine.generate(input, (event) => {
      if (hasEnded) return;
      hasEnded = event.type !== "delta";
      if (event.type === "error") this.counts.failed++;
      else if (event.type === "done")
        this.counts[event.result.finish === "cancelled" ? "cancelled" : "finished"]++;
      onEvent(event);
      if (hasEnded) this.onChange();
    });
    return () => {
      if (!hasEnded) cancel();
    };
  }

  /** Several answers to one prompt, which is computed once; rejects, and cancels the others, when one fails. */
  async wholeOfEach(inputs: readonly GenerationInput[], signal: AbortSignal): Promise<Generated[]> {
    const stop = new AbortController();
    const onAbort = () => stop.abort();
    if (signal.aborted) stop.abort();
    else signal.addEventListener("abort", onAbort, { once: true });
    const family = crypto.randomUUID();
    const related = inputs.length > 1 ? inputs.map((input) => ({ ...input, family })) : inputs;
    try {
      return await Promise.all(related.map((input) => this.whole(input, stop.signal)));
    } finally {
      stop.abort();
      signal.removeEventListener("abort", onAbort);
    }
  }

  /** Resolves with the whole answer; rejects with the engine's error. Cancels when `signal` fires. */
  whole(input: GenerationInput, signal: AbortSignal): Promise<Generated> {
    return new Promise((resolve, reject) => {
      let text = "";
      const tokens: GeneratedToken[] = [];
      const cancel = this.start(input, (event) => {
        if (event.type === "error") return reject(new EngineError(event.code, event.message));
        text += event.text;
        if (event.type === "delta") tokens.push(...event.tokens);
        else resolve({ text, tokens, result: event.result });
      });
      if (signal.aborted) cancel();
      else signal.addEventListener("abort", cancel, { once: true });
    });
  }
}
