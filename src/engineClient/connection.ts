// Typed calls to one daemon. It knows nothing of starting or finding one.
import type { IncomingMessage } from "node:http";
import type {
  EngineEvents,
  Health,
  InfillPiece,
  InfillRequest,
  InfillResponse,
  PrefillRequest,
} from "../../engine/protocol/api.ts";
import { errorText } from "../base/errorText.ts";
import type { Disposable } from "../base/lifecycle.ts";
import type {
  AnswerToken,
  EngineApi,
  InfillOptions,
  InfillOutcome,
  PromptFacts,
} from "./engineApi.ts";
import { EngineFailure } from "./engineFailure.ts";
import { parseActivity, parseErrorBody, parseHealth, parseInfillEvent } from "./parse.ts";
import { SocketHttp } from "./socketHttp.ts";
import { SseReader } from "./sse.ts";

/** A daemon answers /health at once in every phase; one that does not within this time is taken for dead. */
const HEALTH_TIMEOUT_MS = 3000;

export interface PresenceListener {
  onHealth(health: Health): void;
  onActivity(activity: EngineEvents["activity"]): void;
  /** The stream ended: the daemon is gone. Not called after `dispose`. */
  onEnd(): void;
}

export class EngineConnection implements EngineApi, Disposable {
  readonly #http: SocketHttp;

  constructor(socketPath: string) {
    this.#http = new SocketHttp(socketPath);
  }

  /** The daemon's own word on how it is. Rejects with `unreachable` or `bad_answer`. */
  async health(): Promise<Health> {
    const signal = AbortSignal.timeout(HEALTH_TIMEOUT_MS);
    try {
      const answer = await this.#http.open({ method: "GET", path: "/health", signal });
      return parseHealth(await readAll(answer));
    } catch (error) {
      if (!signal.aborted) throw error;
      const message = `expected an answer from /health within ${HEALTH_TIMEOUT_MS} ms, found none`;
      throw new EngineFailure("unreachable", message, error);
    }
  }

  /** Asks the daemon to finish what runs and to end. */
  async shutdown(): Promise<void> {
    const answer = await this.#http.open({
      method: "POST",
      path: "/tidepool/shutdown",
      body: "{}",
    });
    const text = await readAll(answer);
    if (!succeeded(answer))
      throw parseErrorBody(text, answer.statusCode ?? 0, "/tidepool/shutdown");
  }

  async infill(request: InfillRequest, options: InfillOptions = {}): Promise<InfillOutcome> {
    try {
      return await this.#stream(request, options);
    } catch (error) {
      if (options.signal?.aborted) return { kind: "cancelled" };
      if (EngineFailure.is(error)) return { kind: "failed", failure: error };
      const failure = new EngineFailure(
        "unreachable",
        `the engine's answer broke off: ${errorText(error)}`,
        error,
      );
      return { kind: "failed", failure };
    }
  }

  async prefill(request: PrefillRequest, signal?: AbortSignal): Promise<void> {
    const call = {
      method: "POST",
      path: "/tidepool/prefill",
      body: JSON.stringify(request),
    } as const;
    try {
      await readAll(await this.#http.open({ ...call, ...(signal && { signal }) }));
    } catch {
      // Idle work that was not done is done when it is needed; a daemon that is gone is noticed elsewhere.
    }
  }

  /** Says "a client is here" for as long as the result is not disposed. */
  presence(listener: PresenceListener): Disposable {
    const stop = new AbortController();
    this.#follow(listener, stop.signal).then(
      () => stop.signal.aborted || listener.onEnd(),
      () => stop.signal.aborted || listener.onEnd(),
    );
    return { dispose: () => stop.abort() };
  }

  dispose(): void {
    this.#http.close();
  }

  async #stream(request: InfillRequest, options: InfillOptions): Promise<InfillOutcome> {
    const { signal, onText } = options;
    const body = JSON.stringify({ ...request, stream: true });
    const call = { method: "POST", path: "/infill", body, ...(signal && { signal }) } as const;
    const answer = await this.#http.open(call);
    if (!succeeded(answer)) {
      throw parseErrorBody(await readAll(answer), answer.statusCode ?? 0, "/infill");
    }
    const reader = new SseReader();
    let text = "";
    let nTokens = 0;
    let nEvents = 0;
    let response: InfillResponse | undefined;
    // Read to the end even after the last event, so that the connection can be used again.
    for await (const chunk of textOf(answer)) {
      for (const event of reader.push(chunk)) {
        if (event.name === "error") throw parseErrorBody(event.data, 200, "/infill");
        const said = parseInfillEvent(event.data);
        if (nEvents++ === 0) options.onPrompt?.(promptFacts(said));
        // The last event has the whole text; of its tokens, all have been heard but those that came with it.
        const piece = said.stop ? said.content.slice(text.length) : said.content;
        const tokens = tokensOf(said).slice(said.stop ? nTokens : 0);
        text += piece;
        nTokens += tokens.length;
        if (piece !== "" || tokens.length > 0) onText?.(piece, tokens);
        if (said.stop) response = said;
      }
    }
    if (response) return { kind: "done", text, response };
    throw new EngineFailure(
      "bad_answer",
      "expected a last event from /infill, found the end of the stream",
    );
  }

  async #follow(listener: PresenceListener, signal: AbortSignal): Promise<void> {
    const answer = await this.#http.open({ method: "GET", path: "/tidepool/events", signal });
    const reader = new SseReader();
    for await (const chunk of textOf(answer)) {
      for (const event of reader.push(chunk)) {
        if (event.name === "health") listener.onHealth(parseHealth(event.data));
        if (event.name === "activity") listener.onActivity(parseActivity(event.data));
      }
    }
  }
}

function promptFacts({
  tokens_evaluated,
  tokens_cached,
  timings,
}: InfillPiece | InfillResponse): PromptFacts {
  return {
    tokens: tokens_evaluated,
    cached: tokens_cached,
    queueMs: timings?.queue_ms,
    promptMs: timings?.prompt_ms,
  };
}

/** The tokens of an answer, or of a part of one. */
export function tokensOf(said: { texts: string[]; logprobs: number[] }): AnswerToken[] {
  return said.texts.map((text, i) => ({ text, logProb: said.logprobs[i] ?? Number.NaN }));
}

function succeeded(answer: IncomingMessage): boolean {
  return answer.statusCode !== undefined && answer.statusCode >= 200 && answer.statusCode < 300;
}

/** The body as text; `setEncoding` keeps characters whole that are cut by a chunk's end. */
function textOf(answer: IncomingMessage): AsyncIterable<string> {
  answer.setEncoding("utf8");
  return answer;
}

async function readAll(answer: IncomingMessage): Promise<string> {
  let text = "";
  for await (const chunk of textOf(answer)) text += chunk;
  return text;
}
