import { expect, test } from "vitest";
import { siteOf } from "./documentSnapshot.ts";
import { typedSince } from "./typedAhead.ts";

function at(marked: string, filename = "a") {
  const offset = marked.indexOf("<|>");
  return siteOf({ filename, text: marked.replace("<|>", ""), offset });
}

test.each([
  ["x<|>\n", "xyz<|>\n", "yz"],
  ["x<|>", "x<|>", ""],
  ["f<|>\n", "f(<|>)\n", "("],
  ["f<|>", 'f("<|>")', '("'],
  ["f<|>\n", "f(<|>z\n", undefined],
  ["xy<|>", "x<|>", undefined],
  ["x<|>", "z<|>", undefined],
  ["f<|>", "f<|>)", undefined],
  ["x<|>", `x${"y".repeat(257)}<|>`, undefined],
])("between %j and %j was typed %j", (before, now, typed) => {
  expect(typedSince(at(before), at(now))).toBe(typed);
});

test("another file is another document", () => {
  expect(typedSince(at("x<|>", "a"), at("xy<|>", "b"))).toBeUndefined();
});

test("a change far from the cursor is no typing", () => {
  const line = "const value = 1;\n".repeat(20);
  expect(typedSince(at(`a${line}x<|>`), at(`a${line}xy<|>`))).toBe("y");
  expect(typedSince(at(`a${line}x<|>`), at(`b${line}xy<|>`))).toBeUndefined();
  expect(typedSince(at(`x<|>${line}a`), at(`x(<|>)${line}a`))).toBe("(");
  expect(typedSince(at(`x<|>${line}a`), at(`x(<|>)${line}b`))).toBeUndefined();
});
