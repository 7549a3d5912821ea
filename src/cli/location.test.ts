import { expect, test } from "vitest";
import { UsageError } from "./cliError.ts";
import { offsetOf, parseCount, parseLocation } from "./location.ts";

test("reads a location, with colons in the file name", () => {
  expect(parseLocation("c:/a.py:3:14")).toEqual({ file: "c:/a.py", line: 3, column: 14 });
});

test.each(["a.py", "a.py:1", "a.py:0:1", "a.py:1:0", "a.py:x:1", ":1:1"])(
  "refuses %j as a location",
  (text) => {
    expect(() => parseLocation(text)).toThrow(UsageError);
  },
);

test.each(["many", "-3", "1.5", "", "0"])("refuses %j as a count", (text) => {
  expect(() => parseCount(text, "--budget", 1)).toThrow(UsageError);
});

test("columns count UTF-16 units from 1, and the end of a line is a column", () => {
  const text = "a\r\n🙂b\r\n";
  const at = (line: number, column: number) => offsetOf(text, { file: "f", line, column });
  expect(at(1, 2)).toBe(1);
  expect(at(2, 3)).toBe(5);
  expect(at(3, 1)).toBe(text.length);
  expect(() => at(1, 3)).toThrow("expected column 1 to 2 in line 1 of f, found 3");
  expect(() => at(4, 1)).toThrow("expected line 1 to 3 of f, found 4");
});
