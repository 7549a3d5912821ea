import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { SourceText } from "./sourceText.ts";

describe("SourceText", () => {
  it("gives exactly as much text as asked for, however long", () => {
    const source = new SourceText([]);
    expect(source.version(3, 50)).toHaveLength(50);
    expect(source.version(3, 100_000)).toHaveLength(100_000);
  });

  it("begins every version differently, and the same version the same", () => {
    const source = new SourceText([]);
    const starts = Array.from({ length: 50 }, (_, i) => source.version(i, 80));
    expect(new Set(starts).size).toBe(50);
    expect(source.version(7, 80)).toBe(starts[7]);
  });

  it("reads the files it is given, and names the one that it cannot read", () => {
    const dir = mkdtempSync(join(tmpdir(), "tidepool-source-"));
    const file = join(dir, "a.py");
    writeFileSync(file, "def f():\n    return 1\n");
    expect(new SourceText([file]).version(0, 200)).toContain("def f():\n    return 1\n");
    writeFileSync(file, " \n");
    expect(() => new SourceText([file])).toThrow("expected source text");
    rmSync(dir, { recursive: true });
    expect(() => new SourceText([file])).toThrow(`cannot read --source ${file}`);
  });
});
