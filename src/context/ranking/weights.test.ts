import { expect, test } from "vitest";
import { FEATURES, featureNames } from "./features.ts";
import { PLACES, placeBefore, placeNames } from "./place.ts";
import { fittedFor, HIDDEN, weights } from "./weights.ts";

test("the fitted weights belong to the features as they are now", () => {
  expect(fittedFor.features).toEqual([...featureNames]);
  expect(fittedFor.places).toEqual([...placeNames]);
  // Four are scored at a time.
  expect(HIDDEN % 4).toBe(0);
  expect(weights.hiddenOfFeature).toHaveLength(FEATURES * HIDDEN);
  expect(weights.hiddenOfPlace).toHaveLength(PLACES * HIDDEN);
  expect(weights.hiddenBias).toHaveLength(HIDDEN);
  expect(weights.outOfHidden).toHaveLength(HIDDEN);
  expect(weights.outOfFeature).toHaveLength(FEATURES);
});

test.each([
  ["  ", "lineStart"],
  ["value.", "dot"],
  ["std::", "doubleColon"],
  ["node->", "arrow"],
  ["call(", "open"],
  ["call(a, ", "comma"],
  ["x := ", "equals"],
  ["a == ", "operator"],
  ["let a: ", "colon"],
  ["List<", "less"],
  ["x = new ", "newWord"],
  ["class A extends ", "typeWord"],
  ["return ", "returnWord"],
  ["renew ", "otherWord"],
])("%j asks for what follows %s", (before, place) => {
  expect(placeBefore(before)).toBe(place);
});
