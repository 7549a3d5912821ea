import fc from "fast-check";
import { expect, test } from "vitest";
import { tokensOf, Vocabulary } from "./tokens.ts";
import { TokenText } from "./tokenText.ts";

const line = fc.constantFrom(
  "",
  "  ",
  "def total(items):",
  "    count = 0",
  "\treturn a.b",
  "}",
  "日本 = 1\r",
  "🌊 x",
);
const text = fc.array(line, { maxLength: 120 }).map((lines) => lines.join("\n"));

test("pieces make the tokens, the places and what encloses them, as the whole text does, whatever was known", () => {
  fc.assert(
    fc.property(text, text, text, (head, middle, tail) => {
      const vocabulary = new Vocabulary();
      const before = new TokenText(head + tail, vocabulary);
      const edited = head + middle + tail;
      const pieced = new TokenText(edited, vocabulary, [before]);
      const tokens = tokensOf(edited);
      expect(Array.from(pieced.ids, (id) => vocabulary.textOf(id))).toEqual(tokens);
      const id = vocabulary.add("count");
      const places = tokens.flatMap((token, at) => (token === "count" ? [at] : []));
      expect(pieced.lastPlacesOf(id, 1e9)).toEqual(places);
      expect(pieced.lastPlacesOf(id, 3)).toEqual(places.slice(-3));
      expect([...pieced.placesOfNames("cou")]).toEqual(places);
      const fresh = new TokenText(edited, vocabulary);
      for (const at of places) expect(pieced.enclosing(at)).toBe(fresh.enclosing(at));
    }),
    { numRuns: 60 },
  );
});

/** What encloses `HERE`, which may stand far behind the line that says so. */
function enclosing(source: string): string | undefined {
  const vocabulary = new Vocabulary();
  const tokens = new TokenText(source, vocabulary);
  const [at] = tokens.lastPlacesOf(vocabulary.add("HERE"), 1);
  return tokens.enclosing(at ?? Number.NaN);
}

test.each([
  [
    "Python",
    "def other():\n    pass\n\ndef total_price(a):\n    if a:\n        HERE\n",
    "total_price",
  ],
  ["Python, outside", "def other():\n    pass\n\nHERE\n", undefined],
  ["Go", "func (c *Cart) Total(a int) int {\n\tfor {\n\t\tHERE\n\t}\n}\n", "Total"],
  ["Rust", "pub(crate) fn total<T>(a: T) -> u8 {\n    HERE\n}\n", "total"],
  ["Rust impl", "impl<T> Drop for Cart<T> {\n    HERE\n}\n", "Cart"],
  ["C, brace below", "static int\nfoo (void);\nint total(int a)\n{\n    HERE;\n}\n", "total"],
  ["Java", "class A {\n    public List<B> totalOf(A a) {\n        HERE;\n    }\n}\n", "totalOf"],
  ["a method", "class A {\n  total(a, b) {\n    HERE\n  }\n}\n", "total"],
  ["a function that is kept", "const total = async (a) => {\n  HERE\n};\n", "total"],
  ["Ruby", "def self.total(a)\n  HERE\nend\n", "total"],
  ["after a block", "def total(a):\n    if (a):\n        b(c)\n    HERE\n", "total"],
  ["after a continued call", "def total(a):\n    b(\n        c\n    )\n    HERE\n", "total"],
  [
    "far below",
    `def total(a):\n${Array.from({ length: 300 }, (_, i) => `    value_${i} = a * ${i}\n`).join("")}    HERE\n`,
    "total",
  ],
])("knows what encloses a line: %s", (_, source, name) => {
  expect(enclosing(source)).toBe(name);
});

test("a line of data takes no time", () => {
  const startedAt = performance.now();
  new TokenText(`${"a b ".repeat(10_000)}(\n`, new Vocabulary());
  expect(performance.now() - startedAt).toBeLessThan(500);
});
