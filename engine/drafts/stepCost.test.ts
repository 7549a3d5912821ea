import { expect, test } from "vitest";
import { StepCost } from "./stepCost.ts";

/** A device whose step takes `first` for one token, and `several(n)` for n. */
function learn(cost: StepCost, first: number, several: (n: number) => number, nSteps: number) {
  for (let i = 0; i < nSteps; i++) {
    cost.observe(1, first);
    const n = 2 + (i % 12);
    cost.observe(n, several(n));
  }
}

test("one token costs one, and before any measurement several cost what was measured elsewhere", () => {
  const cost = new StepCost();
  expect(cost.of(1)).toBe(1);
  expect(cost.of(2)).toBeCloseTo(1.3);
  expect(cost.of(8)).toBeCloseTo(1.3 + 6 * 0.28);
  cost.observe(4, 20);
  expect(cost.of(4)).toBeCloseTo(1.3 + 2 * 0.28);
});

test("learns what several tokens cost on this device", () => {
  const [cheap, dear] = [new StepCost(), new StepCost()];
  learn(cheap, 3, (n) => 3 + 0.03 * n, 60);
  expect(cheap.of(8)).toBeGreaterThanOrEqual(1);
  expect(cheap.of(8)).toBeLessThan(1.3);
  learn(dear, 0.5, (n) => 2.5 + 0.1 * n, 60);
  expect(dear.of(2)).toBeGreaterThan(4.5);
  expect(dear.of(8)).toBeLessThan(7.5);
});

test("a step that something else delayed changes little, and a wrong figure fades when no draft is worth it", () => {
  const cost = new StepCost();
  learn(cost, 3, (n) => 3 + n, 40);
  const before = cost.of(4);
  cost.observe(4, 3000);
  expect(cost.of(4)).toBeLessThan(1.4 * before);
  const dear = new StepCost();
  learn(dear, 1, () => 50, 40);
  expect(dear.of(2)).toBeGreaterThan(20);
  for (let i = 0; i < 1000; i++) dear.declined();
  expect(dear.of(2)).toBeLessThan(2);
});
