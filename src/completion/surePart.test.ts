import { expect, test } from "vitest";
import { isBeyondSure, leastSure, surePart, worthOf } from "./surePart.ts";

const tokens = (...said: [text: string, probability: number][]) =>
  said.map(([text, probability]) => ({ text, logProb: Math.log(probability) }));
const part = (said: ReturnType<typeof tokens>, from = 0) => {
  const text = said.map((token) => token.text).join("");
  return text.slice(from, surePart(text, said, from, 0.4).end);
};

test("shows all of a sure text, and nothing of an unsure one", () => {
  expect(part(tokens(["foo", 0.9], ["(bar", 0.9], [")", 0.99]))).toBe("foo(bar)");
  expect(part(tokens(["foo", 0.2], ["(bar)", 0.99]))).toBe("");
});

test("cuts a weak tail", () => {
  expect(part(tokens(["foo", 0.9], ["(", 0.95], ["bar", 0.3]))).toBe("foo(");
});

test("never cuts a name apart", () => {
  expect(part(tokens([" get", 0.9], ["Name", 0.3], ["()", 0.9]))).toBe("");
  expect(part(tokens([" = get", 0.9], ["Name", 0.8], ["Or", 0.2]))).toBe("");
});

test("a single character must be surer than a longer text, and no surer than that for who asks", () => {
  expect(part(tokens([")", 0.7], ["x", 0.1]))).toBe("");
  expect(part(tokens([")", 0.85], ["x", 0.1]))).toBe(")");
  expect(part(tokens(["))", 0.7], ["x", 0.1]))).toBe("))");
  expect(surePart(")", tokens([")", 0.1]), 0, 0.02).end).toBe(1);
});

test("ends behind a line where it has several, and anywhere in the first below the cursor's", () => {
  const said = tokens(["a()\n", 0.9], ["bc", 0.99], [" =", 0.9], [" d", 0.2], ["\n", 0.9]);
  expect(part(said)).toBe("a()\n");
  expect(part(tokens(["a()\n", 0.9], ["bc", 0.9], [" =", 0.9], ["\n", 0.2]))).toBe("a()\nbc =");
  expect(part(tokens(["\n", 0.9], ["  bc", 0.99], [" =", 0.9], [" d", 0.2]))).toBe("\n  bc =");
});

test("what was typed already counts as right", () => {
  const said = tokens(["foo", 0.45], ["(bar)", 0.8]);
  expect(part(said)).toBe("foo");
  expect(part(said, 3)).toBe("(bar)");
});

test("a probability that is no number shows nothing", () => {
  expect(part([{ text: "x", logProb: Number.NaN }])).toBe("");
});

test("unlikely tokens end a generation", () => {
  expect(isBeyondSure(tokens(["a", 0.9], ["b", 0.9]), 0.33)).toBe(false);
  expect(isBeyondSure(tokens(["a", 0.5], ["b", 0.5]), 0.33)).toBe(true);
});

test("every key typed into a text asks for a surer one", () => {
  expect(leastSure(1)).toBeGreaterThan(leastSure(0));
  expect(leastSure(100)).toBeLessThan(1);
});

test("a short text that is right is worth more than a long one that seldom is", () => {
  expect(worthOf(0.9, 6)).toBeGreaterThan(worthOf(0.4, 20));
  expect(worthOf(0.9, 20)).toBeGreaterThan(worthOf(0.9, 6));
});
