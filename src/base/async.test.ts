import { expect, test, vi } from "vitest";
import { deferred, delay, whenAborted } from "./async.ts";

test("a deferred settles from outside", async () => {
  const value = deferred<number>();
  value.resolve(3);
  await expect(value.promise).resolves.toBe(3);
});

test("a delay reports that its time passed", async () => {
  vi.useFakeTimers();
  const waited = delay(1000);
  await vi.advanceTimersByTimeAsync(1000);
  await expect(waited).resolves.toBe(true);
  vi.useRealTimers();
});

test("a delay ends early when its signal fires, and leaves no timer", async () => {
  vi.useFakeTimers();
  const stop = new AbortController();
  const waited = delay(1000, stop.signal);
  stop.abort();
  await expect(waited).resolves.toBe(false);
  await expect(delay(1000, stop.signal)).resolves.toBe(false);
  expect(vi.getTimerCount()).toBe(0);
  vi.useRealTimers();
});

test("an abort that already happened is seen", async () => {
  await expect(whenAborted(AbortSignal.abort()).fired).resolves.toBeUndefined();
});
