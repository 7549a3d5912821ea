import fc from "fast-check";
import { expect, test } from "vitest";
import { leastSure } from "../surePart.ts";
import { Learned, startOf } from "./learned.ts";
import { BANDS, type Mode } from "./modes.ts";

const DAY_MS = 24 * 3600 * 1000;
const modes: Mode[] = ["quiet", "balanced", "eager"];

/** A user who takes every text of which the position in the list is marked. */
function after(marks: readonly boolean[], languageId = "go", learned = new Learned()): Learned {
  for (const [i, taken] of marks.entries()) learned.count(languageId, taken ? 1 : 0, i * 1000);
  return learned;
}

const share = (n: number, taken: number) =>
  Array.from({ length: n }, (_, i) => Math.floor((i + 1) * taken) > Math.floor(i * taken));
const sureOf = (learned: Learned, mode: Mode = "balanced", language = "go", nowMs = 1e6) =>
  learned.thresholdFor(mode, language, nowMs).sure;

test("begins with each mode's own threshold, the balanced one as it always was", () => {
  expect(sureOf(new Learned())).toBe(leastSure(0));
  const [quiet, balanced, eager] = modes.map((mode) => sureOf(new Learned(), mode));
  expect(quiet).toBeGreaterThan(balanced ?? Number.NaN);
  expect(balanced).toBeGreaterThan(eager ?? Number.NaN);
});

test.each(modes)("in %s mode, who takes 70 % of it is shown more", (mode) => {
  expect(sureOf(after(share(50, 0.7)), mode)).toBeLessThan(startOf(mode));
});

test.each(modes)("in %s mode, who dismisses all of it is shown less, and never nothing", (mode) => {
  const sure = sureOf(after(share(500, 0)), mode);
  expect(sure).toBeGreaterThan(startOf(mode));
  expect(sure).toBeLessThanOrEqual(BANDS[mode].highest);
  // A copied text that needs no model is still shown.
  expect(BANDS[mode].highest).toBeLessThan(0.85);
});

test("who takes what was expected of them is shown what they were shown before", () => {
  const sure = sureOf(after(share(100, BANDS.balanced.taken)));
  expect(Math.abs(sure - startOf("balanced"))).toBeLessThan(0.05);
});

test("a few texts hardly say anything", () => {
  const sure = sureOf(after([false, false]));
  expect(sure - startOf("balanced")).toBeLessThan(0.08);
});

test("a language with enough evidence is judged by itself, others by all together", () => {
  const learned = after(share(60, 0.9), "go");
  after(share(30, 0), "python", learned);
  expect(sureOf(learned, "balanced", "go")).toBeLessThan(startOf("balanced"));
  expect(sureOf(learned, "balanced", "python")).toBeGreaterThan(startOf("balanced"));
  const { because } = learned.thresholdFor("balanced", "rust", 1e6);
  expect(because).toContain("all languages");
});

test("a habit that changed is followed", () => {
  const learned = after([...share(200, 0), ...share(200, 0.9)]);
  expect(sureOf(learned)).toBeLessThan(startOf("balanced"));
});

test("what was learned fades with time", () => {
  const learned = after(share(200, 0));
  const later = sureOf(learned, "balanced", "go", 60 * DAY_MS);
  expect(Math.abs(later - startOf("balanced"))).toBeLessThan(0.01);
});

test("a reset forgets all", () => {
  const learned = after(share(100, 0));
  learned.reset();
  expect(sureOf(learned)).toBe(startOf("balanced"));
  expect(learned.stored.languages).toEqual({});
});

test("is the same after it was kept and read again", () => {
  const learned = after(share(40, 0.6));
  const again = new Learned(JSON.parse(JSON.stringify(learned.stored)));
  expect(sureOf(again)).toBe(sureOf(learned));
});

test.each([undefined, null, 3, { version: 2 }, { version: 1, overall: {}, languages: [] }])(
  "begins anew when %j was kept",
  (kept) => {
    expect(sureOf(new Learned(kept))).toBe(startOf("balanced"));
  },
);

test("whatever a user does, the threshold stays in the mode's band", () => {
  fc.assert(
    fc.property(
      fc.array(fc.boolean(), { maxLength: 300 }),
      fc.constantFrom(...modes),
      (marks, mode) => {
        const sure = sureOf(after(marks), mode);
        const { lowest, highest } = BANDS[mode];
        expect(sure >= lowest && sure <= highest).toBe(true);
      },
    ),
  );
});
