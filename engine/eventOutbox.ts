/**
 * Events on their way from the engine's thread to the HTTP thread, several in one message: each message wakes a thread
 * that then competes with the kernels for a core. Nobody sees a token a few milliseconds later.
 */
import type { EngineEvent } from "./engineMessages.ts";
import type { GenerationEvent } from "./scheduler/request.ts";

/** Deltas that follow a message sooner than this wait for the next step. */
const HOLD_MS = 4;

export class EventOutbox {
  private readonly send: (events: EngineEvent[]) => void;
  private readonly now: () => number;
  private waiting: EngineEvent[] = [];
  private hasEnd = false;
  private sentAt = Number.NEGATIVE_INFINITY;

  /** `now` is a monotonic clock in milliseconds. */
  constructor(send: (events: EngineEvent[]) => void, now: () => number = () => performance.now()) {
    this.send = send;
    this.now = now;
  }

  /** Takes an event of request `id`; deltas of one request become one. */
  add(id: number, event: GenerationEvent): void {
    const at = this.waiting.findIndex((waiting) => waiting.id === id);
    const before = this.waiting[at]?.event;
    if (event.type === "delta" && before?.type === "delta") {
      const merged = {
        ...before,
        text: before.text + event.text,
        tokens: [...before.tokens, ...event.tokens],
      };
      this.waiting[at] = { id, event: merged };
      return;
    }
    this.hasEnd ||= event.type !== "delta";
    this.waiting.push({ id, event });
  }

  /** To be called after every step: sends what waits when something ended, the last message is old, or no step follows. */
  stepped(isLast: boolean): void {
    if (this.waiting.length === 0) return;
    if (!isLast && !this.hasEnd && this.now() - this.sentAt < HOLD_MS) return;
    this.sentAt = this.now();
    this.hasEnd = false;
    this.send(this.waiting);
    this.waiting = [];
  }
}
