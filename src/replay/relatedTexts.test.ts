import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { RelatedTexts } from "./relatedTexts.ts";

test("a copy of the session's file is no related text, and no refused file is", async () => {
  const folder = mkdtempSync(join(tmpdir(), "tidepool-related-test-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const typed = "total = price * count\nreturn total";
  writeFileSync(join(folder, "shop.py"), `def f():\n${typed}\n`);
  writeFileSync(join(folder, "shopCopy.py"), `def f():\n${typed}\n`);
  writeFileSync(join(folder, "cart.py"), "def total(): pass\n");
  writeFileSync(join(folder, "hidden.py"), "x = 1\n");
  writeFileSync(join(folder, ".gitignore"), "hidden.py\n");
  const session = { language: "Python", folder, filename: "shop.py", before: "", typed, after: "" };
  expect(await new RelatedTexts().of(session)).toEqual(["def total(): pass\n"]);
});
