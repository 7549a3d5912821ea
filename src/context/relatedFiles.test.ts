import { expect, test } from "vitest";
import { relatedPaths, relatedTexts } from "./relatedFiles.ts";

const PATHS = [
  "docs/guide.md",
  "src/http/client.ts",
  "src/http/clientOptions.ts",
  "src/http/server.ts",
  "src/http/server.go",
  "src/store/disk.ts",
  "test/http/client.test.ts",
  "web/app.js",
];

test("files named alike come first, then near ones, all of one language", () => {
  expect(relatedPaths(PATHS, "src/http/client.ts")).toEqual([
    "src/http/clientOptions.ts",
    "src/http/server.ts",
    "test/http/client.test.ts",
    "src/store/disk.ts",
    "web/app.js",
  ]);
  expect(relatedPaths(PATHS, "src/http/server.go")).toEqual([]);
});

test("a header belongs to its source file", () => {
  expect(relatedPaths(["a/page.h", "a/list.cpp", "b/page.hpp"], "a/page.cpp")[0]).toBe("a/page.h");
});

test("skips what cannot be read, cuts long files, ends when there is enough", async () => {
  const paths = ["a/1.py", "a/2.py", "a/3.py", "a/4.py", "a/5.py", "a/6.py"];
  const asked: string[] = [];
  const texts = await relatedTexts(paths, "a/0.py", (path) => {
    asked.push(path);
    return Promise.resolve(path === "a/2.py" ? undefined : `${path}\r\n${"x".repeat(60_000)}`);
  });
  expect(texts.map((text) => text.slice(0, 7))).toEqual([
    "a/1.py\n",
    "a/3.py\n",
    "a/4.py\n",
    "a/5.py\n",
  ]);
  expect(texts.map((text) => text.length)).toEqual([40_000, 40_000, 40_000, 40_000]);
  expect(asked).not.toContain("a/6.py");
});
