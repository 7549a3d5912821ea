import { expect, test } from "vitest";
import { resultAt } from "./answerResult.ts";
import { siteOf } from "./documentSnapshot.ts";

const MARKED = "function a() {\n  if (b) {\n    c();\n  }\n}\n\nfunction d() {\n  <|>\n}\n";
const site = siteOf({
  filename: "a.txt",
  text: MARKED.replace("<|>", ""),
  offset: MARKED.indexOf("<|>"),
});
const said: [text: string, probability: number][] = [
  ["if (e) {\n", 0.99],
  ["        ", 0.99],
  ["yield", 0.99],
  ["All", 0.98],
  ["(e);\n", 0.97],
  ["    }\n", 0.3],
];

function shown(sure: number): string | undefined {
  const text = said.map(([piece]) => piece).join("");
  const tokens = said.map(([piece, probability]) => ({
    text: piece,
    logProb: Math.log(probability),
  }));
  const { result } = resultAt({ site, mode: "multi", text, tokens, cutByLimit: false }, site, sure);
  return result.kind === "shown" ? result.text : undefined;
}

test("lines that were indented anew are cut between the tokens that were said", () => {
  expect(shown(0.9)).toBe("if (e) {\n    yieldAll(e);");
  expect(shown(0.965)).toBe("if (e) {");
});
