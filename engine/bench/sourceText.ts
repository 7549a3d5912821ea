/** Text of benchmark prompts: real source code, in as many versions as wanted that begin differently. */
import { readFileSync } from "node:fs";
import { EngineError, messageOf } from "../base/errors.ts";
import { SAMPLE_CODE } from "./sampleCode.ts";

/** Stand in for the sample's nouns, so that repeated code is not the same text again. */
const NAMES = [
  ["Ledger", "entry", "account"],
  ["Orders", "order", "customer"],
  ["Catalog", "product", "supplier"],
  ["Schedule", "visit", "doctor"],
  ["Archive", "record", "author"],
] as const;

export class SourceText {
  private readonly text: string;

  /** The text of `files` one after the other, or the bundled sample when there are none. Throws `environment`. */
  constructor(files: readonly string[]) {
    this.text = files.length === 0 ? variations() : files.map(readText).join("\n");
    if (this.text.trim() === "")
      throw new EngineError("environment", "expected source text in the files, found none");
  }

  /** At least `nChars` characters. Two versions share no more than their first few words. */
  version(index: number, nChars: number): string {
    const start = this.lineAt((index * 997) % this.text.length);
    let text = `// Version ${index} of this file.\n${this.text.slice(start)}`;
    while (text.length < nChars) text += this.text;
    return text.slice(0, nChars);
  }

  /** Start of the line that holds character `at`. */
  private lineAt(at: number): number {
    return this.text.lastIndexOf("\n", at) + 1;
  }
}

function variations(): string {
  return NAMES.map(([collection, item, owner]) =>
    SAMPLE_CODE.replaceAll("Ledger", collection)
      .replaceAll("entry", item)
      .replaceAll("account", owner),
  ).join("\n");
}

function readText(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (cause) {
    throw new EngineError("environment", `cannot read --source ${file}: ${messageOf(cause)}`, {
      cause,
    });
  }
}
