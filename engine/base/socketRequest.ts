import { request } from "node:http";

const TIMEOUT_MS = 60_000;

/** One HTTP request over a Unix socket or named pipe: GET, or POST when there is a `body`. Rejects when nothing answers. */
export function askSocket(
  socket: string,
  path: string,
  body?: object,
  timeoutMs = TIMEOUT_MS,
): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const options = {
      socketPath: socket,
      path,
      method: body === undefined ? "GET" : "POST",
      headers: { "content-type": "application/json" },
      timeout: timeoutMs,
    };
    const outgoing = request(options, (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (piece: string) => {
        text += piece;
      });
      response.once("error", reject);
      response.once("end", () => resolve({ status: response.statusCode ?? 0, text }));
    });
    outgoing.once("timeout", () =>
      outgoing.destroy(new Error(`expected an answer within ${timeoutMs} ms, found none`)),
    );
    outgoing.once("error", reject);
    outgoing.end(body === undefined ? undefined : JSON.stringify(body));
  });
}
