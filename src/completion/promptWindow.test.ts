import { expect, test } from "vitest";
import { siteOf } from "./documentSnapshot.ts";
import { windowOf } from "./promptWindow.ts";

const lines = (count: number, text = "line") =>
  Array.from({ length: count }, (_, i) => `${text} ${i}\n`).join("");

function windowAt(before: string, after = "") {
  return windowOf(siteOf({ filename: "a.py", text: before + after, offset: before.length }));
}

test("a small file is read whole", () => {
  expect(windowAt("a\nb", "c\nd")).toEqual({ prefix: "a\nb", suffix: "c\nd" });
});

test("the window begins at a multiple of 64 lines and stays there while the user types", () => {
  const start = (count: number) => windowAt(`${lines(count)}x`).prefix.split("\n", 1)[0];
  expect(start(384)).toBe("line 0");
  expect(start(385)).toBe("line 64");
  expect(start(448)).toBe("line 64");
  expect(start(449)).toBe("line 128");
});

test("long lines shorten the window by whole anchors", () => {
  const { prefix } = windowAt(lines(300, "x".repeat(100)));
  expect(prefix.length).toBeLessThanOrEqual(12_000);
  expect(prefix.startsWith(`${"x".repeat(100)} 192\n`)).toBe(true);
});

test("one enormous line is cut in steps, never inside a character", () => {
  const face = "🙂";
  const { prefix, suffix } = windowAt(`y${face.repeat(10_000)}`, `z${face.repeat(10_000)}`);
  for (const window of [prefix, suffix]) {
    expect(window).not.toMatch(/\p{Surrogate}/u);
    expect(window.length).toBeGreaterThan(2000);
    expect(window.length).toBeLessThanOrEqual(12_000);
  }
});

test("the suffix ends after 96 lines, or earlier with long lines", () => {
  expect(windowAt("", `rest\n${lines(200)}`).suffix.endsWith("line 95\n")).toBe(true);
  const long = windowAt("", lines(60, "x".repeat(100))).suffix;
  expect(long.length).toBeLessThanOrEqual(4000);
  expect(long.endsWith("\n")).toBe(true);
});

test("a CRLF document is read with LF, and a cursor inside a pair moves before it", () => {
  const site = siteOf({ filename: "a", text: "a\r\nb\r\n", offset: 2 });
  expect(site).toMatchObject({
    prefix: "a",
    suffix: "\nb\n",
    lineBefore: "a",
    lineAfter: "",
    eol: "\r\n",
  });
  expect(siteOf({ filename: "a", text: "x🙂y", offset: 2 }).prefix).toBe("x");
});
