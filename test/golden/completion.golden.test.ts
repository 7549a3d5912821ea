// Each case of ./completion shows a document, what the model said at `<|>`, and what the user gets.
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { modeOf } from "../../src/completion/completionMode.ts";
import { siteOf } from "../../src/completion/documentSnapshot.ts";
import { postProcess } from "../../src/completion/postProcess.ts";
import { LocalSyntax } from "../../src/syntax/localSyntax.ts";

const folder = join(import.meta.dirname, "completion");
const CURSOR = "<|>";
const PART = /^--- (document|document [\w.]+|model|model, cut by the limit|shown|nothing)\n/m;

interface Case {
  /** With an extension, where the grammar of its language has a say. */
  filename: string;
  document: string;
  model: string;
  cutByLimit: boolean;
  expected: string;
}

/** A case is a line of explanation and parts under `--- name` lines; the newline before a part's end is not part of it. */
function parse(file: string): Case {
  const [, ...parts] = file.split(PART);
  const [documentPart, document, modelPart, model, outcome, result] = parts;
  if (
    !documentPart?.startsWith("document") ||
    document === undefined ||
    model === undefined ||
    !modelPart?.startsWith("model")
  ) {
    throw new Error("expected the parts document, model, shown or nothing, in this order");
  }
  return {
    filename: documentPart.split(" ")[1] ?? "case",
    document: withoutLastNewline(document),
    model: withoutLastNewline(model),
    cutByLimit: modelPart !== "model",
    expected: outcome === undefined || result === undefined ? "" : `--- ${outcome}\n${result}`,
  };
}

const withoutLastNewline = (text: string) => text.replace(/\n$/, "");

const syntax = new LocalSyntax();

async function outcomeOf(given: Case, eol: string): Promise<string> {
  const { filename, document, model, cutByLimit } = given;
  const text = document.replaceAll("\n", eol);
  const offset = text.indexOf(CURSOR);
  expect(offset).toBeGreaterThanOrEqual(0);
  const site = siteOf({ filename, text: text.replace(CURSOR, ""), offset });
  const scope = await syntax.scopeAt(site);
  const literals = await syntax.literalsIn(site, model);
  const mode = modeOf(site, "auto", scope);
  const result = postProcess(model, { site, mode, cutByLimit, scope, literals });
  if (result.kind === "nothing") return `--- nothing\n${result.reason}\n`;
  const before = text.slice(0, offset);
  const after = text.slice(offset + CURSOR.length + result.replaceLength);
  const accepted = `${before}${result.text}${CURSOR}${after}`;
  expect(accepted.replaceAll(eol, "")).not.toMatch(/[\r\n]/);
  return `--- shown\n${accepted.replaceAll(eol, "\n")}\n`;
}

const names = readdirSync(folder).filter((name) => name.endsWith(".txt"));

test("there are cases", () => {
  expect(names.length).toBeGreaterThan(20);
});

for (const name of names) {
  test(`${name.replace(".txt", "").replaceAll("-", " ")}`, async () => {
    const path = join(folder, name);
    const file = readFileSync(path, "utf8");
    const parsed = parse(file);
    const outcome = await outcomeOf(parsed, "\n");
    if (process.env["UPDATE_GOLDEN"] === "1") {
      writeFileSync(
        path,
        file.replace(/--- (shown|nothing)\n[\s\S]*$/, () => outcome),
      );
      return;
    }
    expect(outcome).toBe(parsed.expected);
    if (parsed.document.includes("\n"))
      expect(await outcomeOf(parsed, "\r\n")).toBe(parsed.expected);
  });
}
