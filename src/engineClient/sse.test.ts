import { expect, test } from "vitest";
import { type SseEvent, SseReader } from "./sse.ts";

const stream =
  ': hello\nevent: health\ndata: {"a":1}\n\ndata: one\r\ndata: two\r\n\r\ndata\n\nid: 4\n\n';
const expected: SseEvent[] = [
  { name: "health", data: '{"a":1}' },
  { name: "message", data: "one\ntwo" },
  { name: "message", data: "" },
];

test("gives the same events however the stream is cut", () => {
  for (let size = 1; size <= stream.length; size++) {
    const reader = new SseReader();
    const events: SseEvent[] = [];
    for (let at = 0; at < stream.length; at += size) {
      events.push(...reader.push(stream.slice(at, at + size)));
    }
    expect(events).toEqual(expected);
  }
});

test("keeps an unfinished event until its empty line arrives", () => {
  const reader = new SseReader();
  expect(reader.push("data: half")).toEqual([]);
  expect(reader.push("\n")).toEqual([]);
  expect(reader.push("\n")).toEqual([{ name: "message", data: "half" }]);
});
