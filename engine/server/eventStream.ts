/** Answers in the form of server-sent events, and tells when the client went away. */

export interface EventSink {
  /** Sends one event; JSON holds no raw line break, so one `data:` line is enough. */
  readonly send: (data: unknown, event?: string) => void;
  /** Sends literal data, such as `[DONE]`. */
  readonly sendText: (data: string) => void;
  readonly end: () => void;
}

/** Events that may wait for a client that does not read; one that is further behind counts as gone. */
const MAX_WAITING = 1 << 16;

/** A response whose body is what `start` sends. The function that `start` returns runs once, when the stream has ended or its client has left. */
export function eventStream(request: Request, start: (sink: EventSink) => () => void): Response {
  const encoder = new TextEncoder();
  let isOpen = true;
  let leave: (() => void) | undefined;
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      const write = (text: string) => {
        if (!isOpen) return;
        controller.enqueue(encoder.encode(text));
        if ((controller.desiredSize ?? 0) < -MAX_WAITING) {
          controller.error(new Error("the client does not read"));
          close();
        }
      };
      leave = start({
        send: (data, event) =>
          write(
            `${event === undefined ? "" : `event: ${event}\n`}data: ${JSON.stringify(data)}\n\n`,
          ),
        sendText: (data) => write(`data: ${data}\n\n`),
        end() {
          if (isOpen) controller.close();
          close();
        },
      });
    },
    cancel: close,
  });
  function close(): void {
    if (!isOpen) return;
    isOpen = false;
    request.signal.removeEventListener("abort", close);
    leave?.();
  }
  if (request.signal.aborted) close();
  else request.signal.addEventListener("abort", close, { once: true });
  return new Response(body, {
    headers: { "content-type": "text/event-stream; charset=utf-8", "cache-control": "no-store" },
  });
}
