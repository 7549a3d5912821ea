import { expect, test } from "vitest";
import { chooseVictim, planStep, type RequestView } from "./planStep.ts";

const limits = { maxTokens: 100, maxSequences: 3 };
const view = (id: number, changes: Partial<RequestView> = {}): RequestView => {
  return { id, priority: "completion", order: id, isRunning: true, nPending: 1, ...changes };
};
const computed = (views: RequestView[]) =>
  planStep(views, limits).map((a) => (a.type === "compute" ? [a.id, a.nTokens] : [a.id, "admit"]));

test.each<[string, RequestView[], unknown]>([
  ["nothing", [], []],
  ["admission comes first", [view(1, { isRunning: false, nPending: 9 })], [[1, "admit"]]],
  [
    "decoding goes before a prompt's chunk",
    [view(1, { nPending: 500 }), view(2)],
    [
      [2, 1],
      [1, 99],
    ],
  ],
  [
    "prompts go in order of arrival",
    [view(2, { nPending: 80 }), view(1, { nPending: 80 })],
    [
      [1, 80],
      [2, 20],
    ],
  ],
  [
    "only the most urgent run",
    [view(1, { priority: "chat" }), view(2, { priority: "prefill" }), view(3)],
    [[3, 1]],
  ],
  [
    "no more sequences than a step holds",
    [view(1), view(2), view(3), view(4)],
    [
      [1, 1],
      [2, 1],
      [3, 1],
    ],
  ],
])("%s", (_name, views, expected) => {
  expect(computed(views)).toEqual(expected);
});

test("the least urgent and youngest gives its blocks back, never one that computes", () => {
  const views = [
    view(1, { priority: "prefill" }),
    view(2),
    view(3, { priority: "prefill", isRunning: false }),
  ];
  expect(chooseVictim(views, new Set())).toBe(1);
  expect(chooseVictim(views, new Set([1]))).toBe(2);
  expect(chooseVictim(views, new Set([1, 2]))).toBeUndefined();
});
