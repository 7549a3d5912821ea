// HTTP/1.1 over the daemon's Unix socket or named pipe, with connections kept open between requests.
import { Agent, type ClientRequest, type IncomingMessage, request } from "node:http";
import { EngineFailure } from "./engineFailure.ts";

export interface SocketRequest {
  method: "GET" | "POST";
  path: string;
  body?: string;
  signal?: AbortSignal;
}

export class SocketHttp {
  readonly #socketPath: string;
  readonly #agent = new Agent({ keepAlive: true, maxFreeSockets: 4 });

  constructor(socketPath: string) {
    this.#socketPath = socketPath;
  }

  /**
   * Sends a request and resolves with the answer's head.
   * Rejects with `unreachable` when nothing answers, and with any error when the signal fires.
   */
  async open(call: SocketRequest): Promise<IncomingMessage> {
    try {
      return await this.#attempt(call);
    } catch (error) {
      // The daemon may close an idle connection at the moment we reuse it; the request was never read then.
      if (error instanceof StaleConnection) return await this.#attempt(call);
      throw error;
    }
  }

  close(): void {
    this.#agent.destroy();
  }

  #attempt(call: SocketRequest): Promise<IncomingMessage> {
    return new Promise((resolve, reject) => {
      const body = call.body === undefined ? undefined : Buffer.from(call.body);
      const sent: ClientRequest = request({
        socketPath: this.#socketPath,
        agent: this.#agent,
        method: call.method,
        path: call.path,
        headers: {
          host: "tidepool",
          ...(body && { "content-type": "application/json", "content-length": body.length }),
        },
      });
      // Not `request`'s own `signal`: that also destroys a connection that already waits for its next use, where nobody hears the error.
      let answer: IncomingMessage | undefined;
      const onAbort = () => {
        if (answer?.complete !== true) sent.destroy(new Error("the request was cancelled"));
      };
      if (call.signal?.aborted) onAbort();
      else call.signal?.addEventListener("abort", onAbort, { once: true });
      sent.once("close", () => call.signal?.removeEventListener("abort", onAbort));
      sent.once("response", (message) => {
        answer = message;
        resolve(message);
      });
      sent.once("error", (cause: NodeJS.ErrnoException) => {
        if (call.signal?.aborted) reject(cause);
        else if (sent.reusedSocket && cause.code === "ECONNRESET") reject(new StaleConnection());
        else reject(this.#unreachable(cause));
      });
      sent.end(body);
    });
  }

  #unreachable(cause: NodeJS.ErrnoException): EngineFailure {
    const why = cause.code ?? cause.message;
    return new EngineFailure(
      "unreachable",
      `no engine answers at ${this.#socketPath}: ${why}`,
      cause,
    );
  }
}

class StaleConnection extends Error {}
