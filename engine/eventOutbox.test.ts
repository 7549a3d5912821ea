import { beforeEach, describe, expect, it } from "vitest";
import type { EngineEvent } from "./engineMessages.ts";
import { EventOutbox } from "./eventOutbox.ts";
import type { GenerationEvent } from "./scheduler/request.ts";

const prompt = { promptTokens: 9, cachedTokens: 8, queueMs: 0, promptMs: 1 };
const delta = (text: string): GenerationEvent => ({
  type: "delta",
  prompt,
  text,
  tokens: [{ id: text.length, text, logProb: -1, top: [] }],
});
const end: GenerationEvent = { type: "error", code: "internal", message: "over" };

describe("EventOutbox", () => {
  let nowMs: number;
  let sent: EngineEvent[][];
  let outbox: EventOutbox;
  beforeEach(() => {
    nowMs = 100;
    sent = [];
    outbox = new EventOutbox(
      (events) => sent.push(events),
      () => nowMs,
    );
  });

  it("sends the first delta at once, and joins those that follow soon", () => {
    outbox.add(1, delta("a"));
    outbox.stepped(false);
    expect(sent).toEqual([[{ id: 1, event: delta("a") }]]);
    for (const text of ["b", "cd"]) {
      nowMs += 1;
      outbox.add(1, delta(text));
      outbox.stepped(false);
    }
    expect(sent).toHaveLength(1);
    nowMs += 3;
    outbox.stepped(false);
    const tokens = ["b", "cd"].map((text) => ({ id: text.length, text, logProb: -1, top: [] }));
    expect(sent[1]).toEqual([{ id: 1, event: { type: "delta", text: "bcd", tokens, prompt } }]);
  });

  it("sends everything in order as soon as a request ends", () => {
    outbox.add(1, delta("a"));
    outbox.stepped(false);
    outbox.add(1, delta("b"));
    outbox.add(2, delta("c"));
    outbox.add(1, end);
    outbox.stepped(false);
    expect(sent[1]).toEqual([
      { id: 1, event: delta("b") },
      { id: 2, event: delta("c") },
      { id: 1, event: end },
    ]);
  });

  it("keeps nothing back when no step follows, and sends no empty message", () => {
    outbox.add(1, delta("a"));
    outbox.stepped(false);
    outbox.add(1, delta("b"));
    outbox.stepped(true);
    outbox.stepped(true);
    expect(sent).toHaveLength(2);
  });
});
