// What holds for every document and every answer, whatever the filters do.
import fc from "fast-check";
import { expect, test } from "vitest";
import { modeOf } from "./completionMode.ts";
import type { CompletionResult } from "./completionResult.ts";
import { type CursorSite, siteOf } from "./documentSnapshot.ts";
import { postProcess } from "./postProcess.ts";
import { windowOf } from "./promptWindow.ts";

/** Pieces that code is made of, with what filters look for among them. */
const piece = fc.constantFrom(
  ..."()[]{}<>\"'`;:,.=\\".split(""),
  "\n",
  "\n    ",
  "\n\t",
  " ",
  "  ",
  "x",
  "value",
  "return a + b",
  "if (a) {",
  "def f(x):",
  "else:",
  "}",
  "🌊",
  "שלום",
  "é",
  "// note",
  "=> ",
);
const code = fc.array(piece, { maxLength: 24 }).map((pieces) => pieces.join(""));
const cases = fc.record({ before: code, after: code, said: code, cutByLimit: fc.boolean() });

type Given = typeof cases extends fc.Arbitrary<infer T> ? T : never;

function siteOfCase({ before, after }: Given, eol = "\n"): CursorSite {
  const withEol = (text: string) => text.replaceAll("\n", eol);
  const text = withEol(before) + withEol(after);
  return siteOf({ filename: "a", text, offset: withEol(before).length });
}

function resultOf(given: Given, eol?: string): CompletionResult {
  const site = siteOfCase(given, eol);
  const { said, cutByLimit } = given;
  return postProcess(said, { site, mode: modeOf(site, "auto"), cutByLimit });
}

test("inserting changes nothing outside of the range that is replaced, which lies on the cursor's line", () => {
  fc.assert(
    fc.property(cases, (given) => {
      const result = resultOf(given);
      if (result.kind === "nothing") return;
      const { lineAfter } = siteOfCase(given);
      expect(result.replaceLength).toBeGreaterThanOrEqual(0);
      expect(result.replaceLength).toBeLessThanOrEqual(lineAfter.length);
      expect(/\S/.test(result.text)).toBe(true);
      // What is replaced stands in the text that takes its place, so that nothing of the user's is lost.
      const replaced = [...lineAfter.slice(0, result.replaceLength).trimEnd()];
      const rest = [...result.text];
      for (const char of replaced) {
        const at = rest.indexOf(char);
        expect(at).toBeGreaterThanOrEqual(0);
        rest.splice(0, at + 1);
      }
    }),
    { numRuns: 2000 },
  );
});

test("the text is the model's, apart from white space", () => {
  fc.assert(
    fc.property(cases, (given) => {
      const result = resultOf(given);
      if (result.kind === "nothing") return;
      const bare = (text: string) => text.replace(/\s/g, "");
      expect(bare(given.said).startsWith(bare(result.text))).toBe(true);
    }),
    { numRuns: 2000 },
  );
});

test("what is undone is the document as it was", () => {
  fc.assert(
    fc.property(cases, (given) => {
      const result = resultOf(given);
      if (result.kind === "nothing") return;
      const { before, after } = given;
      const removed = after.slice(0, result.replaceLength);
      const accepted = before + result.text + after.slice(result.replaceLength);
      const undone =
        accepted.slice(0, before.length) +
        removed +
        accepted.slice(before.length + result.text.length);
      expect(undone).toBe(before + after);
    }),
  );
});

test("closers that stand after the cursor are never there twice", () => {
  const closers = fc.constantFrom(")", "]", "}", "))", ")]", ")}", "})");
  const word = fc.constantFrom("a", "value", "a, b", "f(x)", "[1]", "{ k: 1 }", "");
  fc.assert(
    fc.property(closers, word, (after, said) => {
      const openers = [...after].map((c) => ({ ")": "(", "]": "[", "}": "{" })[c] ?? "").reverse();
      const before = `call${openers.join("")}`;
      const given = { before, after, said: said + after, cutByLimit: false };
      const result = resultOf(given);
      const accepted =
        result.kind === "nothing"
          ? before + after
          : before + result.text + after.slice(result.replaceLength);
      expect(accepted).toBe(before + said + after);
    }),
    { numRuns: 500 },
  );
});

test("documents with CRLF and LF get the same text up to line ends", () => {
  fc.assert(
    fc.property(cases, (given) => {
      const lf = resultOf(given, "\n");
      const crlf = resultOf(given, "\r\n");
      // Only a document with a line end tells which it uses.
      const eol = `${given.before}${given.after}`.includes("\n") ? "\r\n" : "\n";
      if (lf.kind === "nothing" || crlf.kind === "nothing") expect(crlf).toEqual(lf);
      else expect(crlf).toEqual({ ...lf, text: lf.text.replaceAll("\n", eol) });
    }),
    { numRuns: 2000 },
  );
});

test("surrogate pairs are never split: not by a cursor inside of one, by windows, or by what is shown", () => {
  const HALF = /[\uD800-\uDBFF](?![\uDC00-\uDFFF])|(?<![\uD800-\uDBFF])[\uDC00-\uDFFF]/;
  const isWhole = (text: string) => !HALF.test(text);
  fc.assert(
    fc.property(
      fc.array(fc.constantFrom("🌊", "🐠", "a", "\n", "\r\n", "é"), { maxLength: 30 }),
      fc.nat(60),
      (parts, at) => {
        const text = parts.join("");
        const site = siteOf({ filename: "a", text, offset: Math.min(at, text.length) });
        for (const part of [site.prefix, site.suffix, site.lineBefore, site.lineAfter])
          expect(isWhole(part)).toBe(true);
        expect(site.prefix + site.suffix).toBe(text.replaceAll("\r\n", "\n"));
      },
    ),
    { numRuns: 1000 },
  );
  fc.assert(
    fc.property(fc.nat(9000), fc.constantFrom("", "a"), (n, odd) => {
      const long = odd + "🌊".repeat(n);
      const window = windowOf({ prefix: long, suffix: long });
      expect(isWhole(window.prefix) && isWhole(window.suffix)).toBe(true);
    }),
    { numRuns: 100 },
  );
  fc.assert(
    fc.property(cases, (given) => {
      const result = resultOf(given);
      if (result.kind === "shown") expect(isWhole(result.text)).toBe(true);
    }),
    { numRuns: 1000 },
  );
});
