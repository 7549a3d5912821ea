import { beforeEach, expect, test } from "vitest";
import { siteOf } from "../documentSnapshot.ts";
import { Offers } from "./offers.ts";

let settled: number[];
let offers: Offers;
beforeEach(() => {
  settled = [];
  offers = new Offers((_languageId, taken) => settled.push(taken));
});

function at(marked: string) {
  const offset = marked.indexOf("<|>");
  return siteOf({ filename: "a.go", text: marked.replace("<|>", ""), offset });
}

/** What the provider does when the document stands at a place, and `text` is shown there. */
function ask(marked: string, nowMs: number, text?: string): number | undefined {
  const site = at(marked);
  offers.movedTo(site, nowMs);
  if (text !== undefined) return offers.shown(site, text, "go", nowMs);
  offers.hidden(site);
  return undefined;
}

test("a text that the editor says was taken counts once", () => {
  const id = ask("x = <|>\n", 0, "total");
  ask("x = total<|>\n", 900);
  offers.taken(id ?? Number.NaN);
  expect(settled).toEqual([1]);
});

test("a text that was taken and does not look like typing counts when the editor says so", () => {
  const id = ask("x = <|>\n", 0, `${"long ".repeat(80)}`);
  ask(`x = ${"long ".repeat(80)}<|>\n`, 900);
  expect(settled).toEqual([]);
  offers.taken(id ?? Number.NaN);
  expect(settled).toEqual([1]);
});

test("typing a text to its end takes it", () => {
  ask("x = <|>\n", 0, "ab");
  ask("x = a<|>\n", 100, "b");
  ask("x = ab<|>\n", 200);
  expect(settled).toEqual([1]);
});

test("taking a word and writing something else takes a part", () => {
  ask("x = <|>\n", 0, "open(file)");
  ask("x = open(<|>\n", 500, "file)");
  ask("x = open(q<|>\n", 900);
  expect(settled).toEqual([0.5]);
});

test("writing something else passes a text over", () => {
  ask("x = <|>\n", 0, "total");
  ask("x = q<|>\n", 900);
  expect(settled).toEqual([0]);
});

test("a text that nobody had time to read is not passed over", () => {
  ask("x = <|>\n", 0, "total");
  ask("x = q<|>\n", 100);
  expect(settled).toEqual([]);
});

test("deleting, and going elsewhere, say nothing", () => {
  ask("x = <|>\n", 0, "total");
  ask("x =<|>\n", 900);
  ask("y = <|>\n", 1000, "total");
  ask("z = 1\ny = <|>\n", 2000, "sum");
  expect(settled).toEqual([]);
});

test("a text that takes the place of an unread one is another offer", () => {
  ask("x = <|>\n", 0, "total");
  ask("x = <|>\n", 50, "sum");
  expect(settled).toEqual([]);
  ask("x = sum<|>\n", 900);
  expect(settled).toEqual([1]);
});

test("a text that grew while it was typed is one offer", () => {
  ask("x = <|>\n", 0, "tot");
  ask("x = t<|>\n", 100, "otal()");
  ask("x = total()<|>\n", 200);
  expect(settled).toEqual([1]);
});

test("what is hidden again after a key counts by what was typed of it", () => {
  ask("x = <|>\n", 0, "abcd");
  ask("x = a<|>\n", 400);
  ask("x = ab<|>\n", 500);
  expect(settled).toEqual([0.25]);
});
