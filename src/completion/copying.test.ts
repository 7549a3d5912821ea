import { expect, test } from "vitest";
import { Copying } from "./copying.ts";
import { siteOf } from "./documentSnapshot.ts";

function guess(marked: string, lines = false, sure = 0.4, copying = new Copying()) {
  const offset = marked.indexOf("<|>");
  const site = siteOf({ filename: "a", text: marked.replace("<|>", ""), offset });
  return copying.guess(site, sure, lines)?.text;
}

test("finishes a name that stands elsewhere in the file", () => {
  expect(guess("totalAmount = 1\nprint(tot<|>)")).toBe("alAmount");
  expect(guess("x = tot<|>\n\ndef totalAmount(): pass")).toBe("alAmount");
});

test("goes on as the place that reads most like this one", () => {
  const loop = "for (const entry of entries) {\n  add(entry);\n}\n";
  expect(guess(`${loop}x();\nfor (const entry of <|>`)).toMatch(/^entries/);
  expect(guess(`${loop}x();\n${loop.slice(0, 28)}<|>`, false, 0.2)).toBe(" {");
  expect(guess(`${loop}x();\nfor (const entry of entries) {<|>`, true)).toContain("add(entry");
});

test("stays on the line unless it may go on", () => {
  const line = "one.two.three.four(five, six)";
  const text = `${line};\nnext.line();\n${line}<|>`;
  expect(guess(text)).toBe(";");
  expect(guess(text, true)).toContain("next");
});

test("says nothing where the file does not say what follows", () => {
  expect(guess("<|>")).toBeUndefined();
  expect(guess("a = 1\nzz<|>")).toBeUndefined();
  expect(guess("ab ac ad ae af\na<|>")).toBeUndefined();
});

test("copies whole names only", () => {
  const text = "configuration.load(path)\nconfiguration.load(path)\nconf<|>";
  expect(guess(text)).toMatch(/^iguration(\b|$)/);
});

test("finds the same with and without what it remembers", () => {
  const copying = new Copying();
  const text = "def area(width, height):\n    return width * height\n\n\ndef volume(width, hei<|>";
  for (const end of [10, 30, 60, text.length - 3]) {
    const marked = `${text.slice(0, end)}<|>\nrest(width)\n`;
    expect(guess(marked, false, 0.4, copying)).toBe(guess(marked));
  }
});

test("copies from texts that it has learned, in place of those before", async () => {
  const copying = new Copying();
  const marked = "a = 1\nfirst_na<|>";
  expect(guess(marked, false, 0.4, copying)).toBeUndefined();
  await copying.learn(["x(first_name)\n", "y()\n"]);
  expect(guess(marked, false, 0.4, copying)).toBe("me");
  await copying.learn(["y()\n"]);
  expect(guess(marked, false, 0.4, copying)).toBeUndefined();
  await copying.learn(["x(first_name)\n"]);
  copying.forget();
  expect(guess(marked, false, 0.4, copying)).toBeUndefined();
});

test("learns what it was told last", async () => {
  const copying = new Copying();
  const slow = copying.learn(Array.from({ length: 20 }, (_, i) => `first_name_${i} = 1\n`));
  await copying.learn(["first_named = 1\n"]);
  await slow;
  expect(guess("a = 1\nfirst_nam<|>", false, 0.4, copying)).toBe("ed");
});

test("what most places say counts, and not only the nearest", () => {
  const often = "open(path, mode)\n".repeat(6);
  expect(guess(`${often}close(path, other)\nopen(path, <|>`)).toMatch(/^mode/);
});

test("a file of 100 000 lines takes no longer than a small one", () => {
  const copying = new Copying();
  const text = "const value = compute(other, 12);\n".repeat(100_000);
  const start = performance.now();
  for (let i = 0; i < 20; i++) guess(`${text}const val${"x".repeat(i)}<|>`, true, 0.4, copying);
  expect(performance.now() - start).toBeLessThan(2000);
});

test("copies from what encloses it by a name like the cursor's own, and fewer words of other names", () => {
  const sum = (name: string, what: string) =>
    `def ${name}(items):\n    total = 0\n    for item in items:\n        total += item.${what}\n    return total\n\n\n`;
  const text = sum("total_quantity", "quantity");
  const loop = "    total = 0\n    for item in items:\n        total += item.<|>";
  expect(guess(`${text}def total_quantity_of(items):\n${loop}`)).toBe("quantity");
  expect(guess(`${text}def total_price(items):\n${loop}`)).toBeUndefined();
  const both = sum("price_of", "price") + sum("count_all", "count");
  expect(guess(`${both}def price_then(items):\n${loop}`)).toBe("price");
});
