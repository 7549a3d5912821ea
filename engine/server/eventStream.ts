/** Answers in the form of server-sent events, and tells when the client went away. */

export interface EventSink {
  /** Sends one event; JSON holds no raw line break, so one `data:` line is enough. */
  send(data: unknown, event?: string): void;
  /** Sends literal data, such as `[DONE]`. */
  sendText(data: string): void;
  end(): void;
}

/** A response whose body is what `start` sends. The function that `start` returns runs once when the client leaves early. */
export function eventStream(request: Request, start: (sink: EventSink) => () => void): Response {
  const encoder = new TextEncoder();
  let isOpen = true;
  let leave: (() => void) | undefined;
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      const write = (text: string) => {
        if (isOpen) controller.enqueue(encoder.encode(text));
      };
      leave = start({
        send: (data, event) =>
          write(
            `${event === undefined ? "" : `event: ${event}\n`}data: ${JSON.stringify(data)}\n\n`,
          ),
        sendText: (data) => write(`data: ${data}\n\n`),
        end() {
          if (isOpen) controller.close();
          isOpen = false;
        },
      });
    },
    cancel: () => vanish(),
  });
  function vanish(): void {
    if (!isOpen) return;
    isOpen = false;
    leave?.();
  }
  request.signal.addEventListener("abort", vanish, { once: true });
  return new Response(body, {
    headers: { "content-type": "text/event-stream; charset=utf-8", "cache-control": "no-store" },
  });
}
