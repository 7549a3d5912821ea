import { expect, test } from "vitest";
import { RestartPolicy } from "./restartPolicy.ts";

test("restarts twice, later each time, then gives the device up", () => {
  const policy = new RestartPolicy();
  expect([0, 1000, 2000].map((now) => policy.lost(now))).toEqual([
    { afterMs: 250 },
    { afterMs: 2000 },
    "give up",
  ]);
});

test("losses that are far apart do not add up", () => {
  const policy = new RestartPolicy();
  const minutes = [0, 11, 22, 33, 44].map((minute) => policy.lost(minute * 60_000));
  expect(minutes).toEqual(minutes.map(() => ({ afterMs: 250 })));
});
