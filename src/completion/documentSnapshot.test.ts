import { expect, test } from "vitest";
import { linesAround, siteOf } from "./documentSnapshot.ts";
import { windowOf } from "./promptWindow.ts";

const lines = (n: number, from = 0) =>
  Array.from({ length: n }, (_, i) => `line ${from + i}\n`).join("");

test("of a large document only the lines around the cursor are looked at, and these are found again in themselves", () => {
  const text = lines(20_000);
  const offset = text.indexOf("line 9000\n") + 4;
  const site = siteOf({ filename: "a", text, offset });
  const { start, end } = linesAround(9000);
  expect(site.prefix.startsWith(`line ${start}\n`)).toBe(true);
  expect(site.suffix.endsWith(`line ${end - 1}\n`)).toBe(true);
  const again = siteOf({
    filename: "a",
    text: site.prefix + site.suffix,
    offset: site.prefix.length,
  });
  expect(again).toEqual(site);
});

test("the prompt of a place in a large document is that of the whole text", () => {
  const text = lines(20_000);
  for (const line of [0, 100, 2047, 2048, 2049, 4095, 4096, 9000, 19_999]) {
    const offset = text.indexOf(`line ${line}\n`) + 3;
    const whole = { prefix: text.slice(0, offset), suffix: text.slice(offset) };
    expect(windowOf(siteOf({ filename: "a", text, offset }))).toEqual(windowOf(whole));
  }
});

test("typing does not move the lines that are looked at", () => {
  const text = lines(5000);
  const offset = text.indexOf("line 3000\n");
  const before = siteOf({ filename: "a", text, offset });
  const after = siteOf({
    filename: "a",
    text: `${text.slice(0, offset)}x${text.slice(offset)}`,
    offset: offset + 1,
  });
  expect(after.prefix).toBe(`${before.prefix}x`);
  expect(after.suffix).toBe(before.suffix);
});

test("a document without line ends, and the end of one, are whole", () => {
  expect(siteOf({ filename: "a", text: "abc", offset: 1 })).toMatchObject({
    prefix: "a",
    suffix: "bc",
  });
  expect(siteOf({ filename: "a", text: "a\nb", offset: 3 })).toMatchObject({
    prefix: "a\nb",
    suffix: "",
  });
});
