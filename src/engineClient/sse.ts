/** One server-sent event; `name` is `message` when the stream gives none. */
export interface SseEvent {
  name: string;
  data: string;
}

/**
 * Incremental reader of a `text/event-stream` body (WHATWG HTML §9.2.6; `id` and `retry` are not used by the engine).
 * Lines may end in LF, CRLF or CR, and chunks may be cut anywhere.
 */
export class SseReader {
  #rest = "";
  #name = "";
  #data: string[] = [];

  /** Takes the next piece of text and returns the events that it completes. */
  push(chunk: string): SseEvent[] {
    const events: SseEvent[] = [];
    const text = this.#rest + chunk;
    let start = 0;
    for (;;) {
      const end = text.slice(start).search(/[\r\n]/) + start;
      if (end < start) break;
      // A CR at the very end may be the first half of a CRLF: wait for what follows.
      if (text[end] === "\r" && end + 1 === text.length) break;
      this.#line(text.slice(start, end), events);
      start = text.startsWith("\r\n", end) ? end + 2 : end + 1;
    }
    this.#rest = text.slice(start);
    return events;
  }

  #line(line: string, events: SseEvent[]): void {
    if (line === "") {
      if (this.#data.length > 0) {
        events.push({ name: this.#name || "message", data: this.#data.join("\n") });
      }
      this.#name = "";
      this.#data = [];
      return;
    }
    const colon = line.indexOf(":");
    if (colon === 0) return;
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "event") this.#name = value;
    else if (field === "data") this.#data.push(value);
  }
}
