// A scripted engine on a real socket, for unit tests: the daemon's protocol without a model.

import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  type ErrorBody,
  type Health,
  type InfillRequest,
  type InfillResponse,
  type LockFile,
  PROTOCOL_VERSION,
  type PrefillRequest,
  type StopType,
} from "../../engine/protocol/api.ts";
import { deferred } from "../base/async.ts";

interface FakeAnswer {
  pieces: readonly string[];
  /** Of every piece; default -0.1. */
  logProb?: number;
  /** Answers after the first, to a request for several. */
  others?: readonly string[];
  stopType?: StopType;
  /** The last event is held back until this settles. */
  hold?: Promise<void>;
  /** The stream breaks off instead of ending. */
  breakOff?: boolean;
}

export type FakeScript = (request: InfillRequest) => FakeAnswer | ErrorBody;

export class FakeEngine {
  readonly socket: string;
  readonly requests: InfillRequest[] = [];
  readonly prefills: PrefillRequest[] = [];
  health: Health;
  script: FakeScript = () => ({ pieces: ["fake"] });
  cancelled = 0;
  shutdowns = 0;
  /** Called when a client asks the engine to end. */
  onShutdown: () => void = () => undefined;
  readonly #folder = mkdtempSync(join(tmpdir(), "tidepool-fake-"));
  readonly #server: Server;
  readonly #streams = new Set<ServerResponse>();
  #waiting: { count: number; reached: () => void }[] = [];

  private constructor(health: Partial<Health>) {
    this.socket = join(this.#folder, "engine.sock");
    const model = {
      id: "fake",
      path: "/models/fake.gguf",
      contextLength: 4096,
      device: "no device",
      fim: true,
    };
    this.health = {
      status: "ready",
      version: "1.0.0",
      protocol: PROTOCOL_VERSION,
      pid: 1,
      model,
      ...health,
    };
    this.#server = createServer((request, response) => {
      this.#serve(request, response).catch((error: unknown) => response.destroy(error as Error));
    });
  }

  static async start(health: Partial<Health> = {}): Promise<FakeEngine> {
    const engine = new FakeEngine(health);
    const listening = deferred<void>();
    engine.#server.listen(engine.socket, listening.resolve);
    await listening.promise;
    return engine;
  }

  get lock(): LockFile {
    const { pid, version, protocol, model } = this.health;
    return { pid, version, protocol, socket: this.socket, model: model?.path ?? "" };
  }

  /** Clients that follow /tidepool/events. */
  get present(): number {
    return this.#streams.size;
  }

  /** Resolves once `count` infill requests have arrived in all. */
  received(count: number): Promise<void> {
    if (this.requests.length >= count) return Promise.resolve();
    const reached = deferred<void>();
    this.#waiting.push({ count, reached: reached.resolve });
    return reached.promise;
  }

  /** Ends as a process does that was killed: every connection breaks. */
  async stop(): Promise<void> {
    const closed = deferred<void>();
    this.#server.close(() => closed.resolve());
    this.#server.closeAllConnections();
    await closed.promise;
    rmSync(this.#folder, { recursive: true, force: true });
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    switch (`${request.method} ${request.url}`) {
      case "GET /health":
        return sendJson(response, this.health.status === "ready" ? 200 : 503, this.health);
      case "POST /tidepool/shutdown":
        this.shutdowns++;
        sendJson(response, 200, {});
        return this.onShutdown();
      case "GET /tidepool/events":
        return this.#follow(response);
      case "POST /tidepool/prefill":
        this.prefills.push((await bodyOf(request)) as PrefillRequest);
        return sendJson(response, 200, { tokens: 1, tokens_cached: 0, ms: 1 });
      case "POST /infill":
        return this.#infill((await bodyOf(request)) as InfillRequest, response);
      default:
        sendJson(response, 404, failure("not_found", `no ${request.url}`));
    }
  }

  #follow(response: ServerResponse): void {
    this.#streams.add(response);
    response.once("close", () => this.#streams.delete(response));
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.write(`event: health\ndata: ${JSON.stringify(this.health)}\n\n`);
  }

  async #infill(request: InfillRequest, response: ServerResponse): Promise<void> {
    const answer = this.script(request);
    response.once("close", () => {
      if (!response.writableFinished) this.cancelled++;
    });
    this.requests.push(request);
    for (const { reached } of this.#waiting.filter(({ count }) => this.requests.length >= count))
      reached();
    if ("error" in answer) return sendJson(response, 400, answer);
    response.writeHead(200, { "content-type": "text/event-stream" });
    const { logProb = -0.1 } = answer;
    for (const content of answer.pieces) {
      const tokens = { tokens: [1], logprobs: [logProb], texts: [content] };
      const counts = { tokens_evaluated: 100, tokens_cached: 64 };
      const timings = { queue_ms: 0, prompt_ms: 2 };
      const piece = { content, stop: false, ...tokens, ...counts, timings };
      response.write(`data: ${JSON.stringify(piece)}\n\n`);
    }
    await answer.hold;
    if (answer.breakOff) response.destroy();
    else response.end(`data: ${JSON.stringify(lastEvent(answer))}\n\n`);
  }
}

export function failure(code: ErrorBody["error"]["code"], message: string): ErrorBody {
  return { error: { code, message, retryable: false } };
}

function lastEvent(answer: FakeAnswer): InfillResponse {
  return {
    content: answer.pieces.join(""),
    stop: true,
    stop_type: answer.stopType ?? "eos",
    model: "fake",
    tokens: answer.pieces.map(() => 1),
    logprobs: answer.pieces.map(() => answer.logProb ?? -0.1),
    texts: [...answer.pieces],
    ...(answer.others && { alternatives: answer.others.map(alternative) }),
    tokens_predicted: answer.pieces.length,
    tokens_evaluated: 100,
    tokens_cached: 64,
    timings: { queue_ms: 0, prompt_ms: 2, predicted_ms: 5 },
  };
}

function alternative(content: string) {
  return { content, stop_type: "eos" as const, logprobs: [-0.5], texts: [content] };
}

function sendJson(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { "content-type": "application/json" });
  response.end(JSON.stringify(body));
}

async function bodyOf(request: IncomingMessage): Promise<unknown> {
  let text = "";
  for await (const chunk of request.setEncoding("utf8")) text += String(chunk);
  return JSON.parse(text);
}
