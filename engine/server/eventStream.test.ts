import { expect, test } from "vitest";
import { type EventSink, eventStream } from "./eventStream.ts";

/** A stream whose sink the test holds, and how often it was told that the stream is over. */
function open(signal?: AbortSignal) {
  let nLeft = 0;
  const sinks: EventSink[] = [];
  const request = new Request("http://x", signal === undefined ? {} : { signal });
  const response = eventStream(request, (sink) => {
    sinks.push(sink);
    return () => nLeft++;
  });
  const [sink] = sinks;
  if (sink === undefined) throw new Error("the stream did not start");
  return { response, sink, left: () => nLeft };
}

test("an event is one data line, whatever line breaks its text has", async () => {
  const { response, sink } = open();
  sink.send({ text: "a\r\nb\n\ndata: c" }, "part");
  sink.sendText("[DONE]");
  sink.end();
  expect(response.headers.get("content-type")).toBe("text/event-stream; charset=utf-8");
  expect(await response.text()).toBe(
    'event: part\ndata: {"text":"a\\r\\nb\\n\\ndata: c"}\n\ndata: [DONE]\n\n',
  );
});

test("what is sent after the end is dropped, and the end is told once", async () => {
  const { response, sink, left } = open();
  sink.end();
  sink.send("late");
  sink.end();
  expect(await response.text()).toBe("");
  expect(left()).toBe(1);
});

test("a reader that leaves is told once", async () => {
  const { response, sink, left } = open();
  sink.send("a");
  await response.body?.cancel();
  sink.send("b");
  sink.end();
  expect(left()).toBe(1);
});

test.each(["before", "after"])("a request that is dropped %s the start ends the stream", (when) => {
  const dropped = new AbortController();
  if (when === "before") dropped.abort();
  const { left } = open(dropped.signal);
  if (when === "after") dropped.abort();
  expect(left()).toBe(1);
});

test("a client that never reads is cut off instead of being remembered for ever", async () => {
  const { response, sink, left } = open();
  for (let i = 0; i < 70_000; i++) sink.send(i);
  expect(left()).toBe(1);
  await expect(response.text()).rejects.toThrow("the client does not read");
});
