import { mkdirSync, mkdtempSync, rmSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { repositoryContext } from "./repositoryContext.ts";

let root: string;

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "tidepool-context-"));
});

afterEach(() => rmSync(root, { recursive: true, force: true }));

function write(path: string, text: string | Buffer, changed = 1000): void {
  const file = join(root, "project", path);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, text);
  utimesSync(file, changed, changed);
}

function contextOf(filename: string, text: string, budgetTokens = 1000) {
  return repositoryContext({ workspace: join(root, "project"), filename, text, budgetTokens });
}

const pathsOf = async (filename: string, text: string, budget?: number) =>
  (await contextOf(filename, text, budget)).snippets.map(({ path }) => path);

test.each([
  ["src/a.ts", 'import { b } from "./b.js";\n', "src/b.ts"],
  ["src/a.ts", 'export * from "../lib";\n', "lib/index.ts"],
  ["pkg/a.py", "from . import x\n", "pkg/__init__.py"],
  ["pkg/a.py", "from .b import x\n", "pkg/b.py"],
  ["pkg/a.py", "import pkg.b\n", "pkg/b.py"],
  ["main.go", 'import (\n\t"fmt"\n\t"example.com/app/store"\n)\n', "store/store.go"],
  ["src/main.rs", "mod parser;\n", "src/parser.rs"],
  ["src/main.rs", "use crate::net::socket::Socket;\n", "src/net/socket.rs"],
  ["src/main/java/app/A.java", "import app.util.B;\n", "src/main/java/app/util/B.java"],
  ["src/a.cpp", '#include "a.h"\n#include <vector>\n', "src/a.h"],
])("%s with %j finds %s", async (file, text, target) => {
  write(target, "content\n");
  await expect(pathsOf(file, text)).resolves.toEqual([target]);
});

test("says why a file is there, and puts the least recently changed first", async () => {
  write("new.py", "n = 1\n", 3000);
  write("old.py", "o = 1\n", 2000);
  const context = await contextOf("a.py", "import new\nimport old\n");
  expect(context.snippets).toEqual([
    { path: "old.py", startLine: 1, endLine: 1, reason: "imported in line 2 as old" },
    { path: "new.py", startLine: 1, endLine: 1, reason: "imported in line 1 as new" },
  ]);
});

test("stays within the budget", async () => {
  write("b.py", "value = 1\n".repeat(1000));
  write("c.py", "value = 1\n".repeat(1000));
  const context = await contextOf("a.py", "import b\nimport c\n", 200);
  expect(context.chunks).toHaveLength(2);
  expect(context.tokens).toBeGreaterThan(150);
  expect(context.tokens).toBeLessThanOrEqual(202);
  await expect(pathsOf("a.py", "import b\n", 0)).resolves.toEqual([]);
});

test("reads nothing that is ignored, secret, binary, large or outside", async () => {
  write(".gitignore", "ignored.js\n");
  write("deep/.gitignore", "hidden.js\n");
  write("ignored.js", "x");
  write("deep/hidden.js", "x");
  write(".env.js", "x");
  write("binary.js", Buffer.from([65, 0, 66]));
  write("large.js", "x".repeat(1024 * 1024 + 1));
  write("fine.js", "x");
  writeFileSync(join(root, "outside.js"), "x");
  symlinkSync(join(root, "outside.js"), join(root, "project", "link.js"));
  const names = ["ignored", "deep/hidden", ".env", "binary", "large", "../outside", "link", "fine"];
  const text = names.map((name) => `import "./${name}.js";\n`).join("");
  await expect(pathsOf("a.js", text)).resolves.toEqual(["fine.js"]);
});
