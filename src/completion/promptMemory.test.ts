import { expect, test } from "vitest";
import { siteOf } from "./documentSnapshot.ts";
import { PromptMemory } from "./promptMemory.ts";

const at = (marked: string, filename = "a") =>
  siteOf({ filename, text: marked.replace("<|>", ""), offset: marked.indexOf("<|>") });

function memory() {
  const held = new PromptMemory();
  let nAsked = 0;
  const context = () => Promise.resolve([{ filename: "b", text: String(++nAsked) }]);
  return {
    parts: (marked: string, filename?: string) => held.partsFor(at(marked, filename), context),
    asked: () => nAsked,
    forget: () => held.forget(),
  };
}

test("typing, deleting and brackets closed by the editor change neither suffix nor other files", async () => {
  const { parts, asked } = memory();
  const first = await parts("x = <|>\ny\n");
  for (const text of [
    "x = f<|>\ny\n",
    "x = f(<|>)\ny\n",
    'x = f("<|>")\ny\n',
    "x<|>\ny\n",
    "x\n  z<|>\ny\n",
  ])
    await expect(parts(text)).resolves.toEqual(first);
  expect(asked()).toBe(1);
  expect(first.suffix).toBe("\ny\n");
});

test.each([
  ["the cursor goes to another line", "x = 1\ny<|>\n", "a"],
  ["text after the cursor changes", "x = <|>\nz\n", "a"],
  ["another file is edited", "x = <|>\ny\n", "other"],
])("asks again when %s", async (_, text, filename) => {
  const { parts, asked } = memory();
  await parts("x = <|>\ny\n");
  await parts(text, filename);
  expect(asked()).toBe(2);
});

test("asks again after many lines, and when told to forget", async () => {
  const { parts, asked, forget } = memory();
  await parts("<|>\ny\n");
  await parts(`${"l\n".repeat(60)}<|>\ny\n`);
  expect(asked()).toBe(2);
  forget();
  await parts(`${"l\n".repeat(60)}<|>\ny\n`);
  expect(asked()).toBe(3);
});
