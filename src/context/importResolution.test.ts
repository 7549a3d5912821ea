import { expect, test } from "vitest";
import { resolveImport } from "./importResolution.ts";
import { importStatements } from "./importStatements.ts";
import { RepositoryIndex } from "./repositoryIndex.ts";
import { languageOf } from "./syntax.ts";

/** Files of a repository that the first import of `text` in `path` means. */
function resolved(path: string, text: string, files: readonly string[]): string[] {
  const index = new RepositoryIndex();
  for (const file of [...files, path])
    index.update({ path: file, text: textOf(file), changedMs: 0, definitions: [] });
  const form = languageOf(path)?.imports;
  if (form === undefined) return [];
  return importStatements(text, form).flatMap(({ source }) =>
    resolveImport(index, path, form, source).map((file) => file.path),
  );
}

/** Languages with namespaces say theirs in the text. */
function textOf(path: string): string {
  const folder = path.split("/").slice(-3, -1).join(".");
  if (path.endsWith(".cs")) return `namespace ${folder};\n`;
  return path.endsWith(".java") ? `package ${folder};\n` : "";
}

test.each([
  ["src/a.ts", 'import { b } from "./b.js";\n', "src/b.ts"],
  ["src/a.ts", 'import { b } from "./b";\n', "src/b.tsx"],
  ["src/a.ts", 'export * from "../lib";\n', "lib/index.ts"],
  ["src/deep/a.ts", 'import { b } from "@/shared/b";\n', "src/shared/b.ts"],
  ["apps/a.ts", 'import { b } from "@scope/money";\n', "packages/money/src/index.ts"],
  ["a.js", 'const { b } = require("./b");\n', "b.js"],
  ["pkg/a.py", "from . import x\n", "pkg/__init__.py"],
  ["pkg/a.py", "from .b import x\n", "pkg/b.py"],
  ["pkg/a.py", "import pkg.b\n", "pkg/b.py"],
  ["pkg/a.py", "from pkg import b as other\n", "pkg/b.py"],
  ["pkg/in/a.py", "from .. import (\n    b,  # why, indeed\n    c,\n)\n", "pkg/b.py"],
  ["pkg/in/a.py", "from ..b import x\n", "pkg/b.py"],
  ["main.go", 'import (\n\t"fmt"\n\t"example.com/app/store"\n)\n', "store/any.go"],
  ["src/main.rs", "mod parser;\n", "src/parser.rs"],
  ["src/main.rs", "use crate::net::socket::Socket;\n", "src/net/socket.rs"],
  ["src/net/mod.rs", "use super::parser::Parser;\n", "src/parser.rs"],
  ["src/main/java/app/A.java", "import app.util.B;\n", "src/main/java/app/util/B.java"],
  ["src/main/java/app/A.java", "import app.util.*;\n", "src/main/java/app/util/C.java"],
  ["src/a.cpp", '#include "a.h"\n#include <vector>\n', "src/a.h"],
  ["src/a.cpp", "#include <lib/b.hpp>\n", "include/lib/b.hpp"],
  ["A.cs", "using App.Data;\n", "src/App/Data/B.cs"],
  ["src/A.php", "use App\\Model\\User;\n", "src/Model/User.php"],
  ["bin/a.rb", "require_relative '../lib/b'\n", "lib/b.rb"],
  ["bin/a.sh", "source ./b.sh\n", "bin/b.sh"],
])("%s with %j finds %s", (path, text, target) => {
  const others = ["other/unrelated.ts", "other/unrelated.py", "other/deep/unrelated.go"];
  expect(resolved(path, text, [...others, target])).toEqual([target]);
});

test.each([
  ["a.ts", 'import fs from "node:fs";\n', ["src/fs.ts"]],
  ["a.ts", 'import x from "./missing";\n', ["deep/missing.ts"]],
  ["a.py", "import os.path\n", ["app/path.py"]],
  ["main.go", 'import "fmt"\n', ["internal/fmt/print.go"]],
])("%s with %j finds nothing in the repository", (path, text, files) => {
  expect(resolved(path, text, files)).toEqual([]);
});

test("a name that Python imports may be a module, known by its other name", () => {
  expect(importStatements("from pkg import b as other, Some\n", "python")).toMatchObject([
    { source: "pkg", names: ["b", "other", "Some"] },
    { source: "pkg.b", names: ["other"] },
    { source: "pkg.Some", names: ["Some"] },
  ]);
});
