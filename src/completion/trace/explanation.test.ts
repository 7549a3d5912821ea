import { expect, test } from "vitest";
import { wordsFor } from "./explanation.ts";

test.each(["quiet", "balanced", undefined])(
  "an unsure text in mode %s may be had by a bolder one",
  (mode) => {
    expect(wordsFor({ kind: "nothing", reason: "unsure" }, mode).advice).toContain("“eager”");
  },
);

test("nobody is told to choose the mode that is chosen already", () => {
  const { advice } = wordsFor({ kind: "nothing", reason: "unsure" }, "eager");
  expect(advice).toContain("Complete Now");
  expect(advice).not.toContain("eager");
});
