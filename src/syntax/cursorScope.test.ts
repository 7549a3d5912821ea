import { describe, expect, test } from "vitest";
import { siteOf } from "../completion/documentSnapshot.ts";
import { LocalSyntax } from "./localSyntax.ts";

const syntax = new LocalSyntax();

function siteIn(filename: string, marked: string) {
  const offset = marked.indexOf("<|>");
  return siteOf({ filename, text: marked.replace("<|>", ""), offset });
}

const scopeAt = (filename: string, marked: string) => syntax.scopeAt(siteIn(filename, marked));

describe("what the cursor stands in", () => {
  test.each([
    ["a.ts", "x = 'a <|>'\n", "string"],
    ["a.ts", "x = 'a <|>\ny = 1\n", "string"],
    ["a.ts", `x = \`a \${<|>} b\`\n`, "code"],
    ["a.ts", "x = `a <|> b`\n", "string"],
    ["a.ts", "let x: string<|>\n", "code"],
    ["a.ts", "/**\n * <|>\n */\nf();\n", "comment"],
    ["a.ts", "f(); // <|>\ng();\n", "comment"],
    ["a.py", 'def f():\n    """Doc\n    <|>\n    """\n', "string"],
    ["a.py", "x = 'abc <|>\ny = 1\n", "string"],
    ["a.py", "x = f'{<|>}'\n", "code"],
    ["a.py", "x = 1  # <|>\n", "comment"],
    ["a.go", "x := `a\n<|>\n`\n", "string"],
    ["a.rs", 'fn f() { let c = "<|>"; }\n', "string"],
    ["a.rb", 'x = "a #{<|>} b"\n', "code"],
    ["a.java", 'class A { String s = "<|>"; }\n', "string"],
    ["a.java", "class A { String <|> }\n", "code"],
    ["a.cs", 'class A { string s = "<|>"; }\n', "string"],
    ["a.c", 'char *s = "<|>";\n', "string"],
    ["a.c", "char <|>;\n", "code"],
    ["a.cpp", "// <|>\nint x;\n", "comment"],
    ["a.php", "<?php\n$x = '<|>';\n", "string"],
    ["a.sh", 'x="<|>"\n', "string"],
  ])("%s %j: %s", async (file, marked, within) => {
    await expect(scopeAt(file, marked)).resolves.toMatchObject({ within });
  });
});

describe("what the last token opens", () => {
  test.each([
    ["a.ts", "function f() {<|>", "block"],
    ["a.ts", "function f() {<|>\n  g();\n}\n", "block"],
    ["a.ts", "class A {\n  f() {<|>\n  }\n}\n", "block"],
    ["a.ts", "const f = () => {<|>", "block"],
    ["a.ts", "const f = () =><|>", "block"],
    ["a.ts", "const x = {<|>", "literal"],
    ["a.ts", "f([<|>", "literal"],
    ["a.ts", "f(<|>", "list"],
    ["a.ts", "import {<|>", "list"],
    ["a.ts", "const x = 1;<|>", undefined],
    ["a.py", "def f(\n    a,\n):<|>", "block"],
    ["a.py", "class A:\n    def f(self):<|>\n\n    def g(self):\n        pass\n", "block"],
    ["a.py", "match:<|>", undefined],
    ["a.py", "x = {'a':<|>", undefined],
    ["a.py", "for x in y:<|>", "block"],
    ["a.py", "# for x in y:<|>", undefined],
    ["a.rb", "def foo(a)<|>", "block"],
    ["a.rb", "class A\n  def foo<|>", "block"],
    ["a.rb", "list.each do |a|<|>", "block"],
    ["a.rb", "x = 1<|>", undefined],
    ["a.go", "func f() error {<|>", "block"],
    ["a.go", "x := T{<|>", "literal"],
    ["a.go", "import (<|>", "block"],
    ["a.rs", "match x {<|>", "block"],
    ["a.rs", "let x = A {<|>", "literal"],
    ["a.rs", "println!(<|>", "list"],
    ["a.java", "class A {\n  void f() {<|>\n  }\n}\n", "block"],
    ["a.cs", "class A {\n  void F() {<|>\n  }\n}\n", "block"],
    ["a.c", "int x[] = {<|>", "literal"],
    ["a.cpp", "int main() {<|>", "block"],
    ["a.sh", "if true; then<|>", "block"],
    ["a.php", "<?php\nfunction f() {<|>", "block"],
  ])("%s %j: %s", async (file, marked, opens) => {
    expect((await scopeAt(file, marked))?.opens).toBe(opens);
  });
});

describe("what the innermost bracket holds", () => {
  test.each([
    ["a.ts", "f(\n  a,\n  <|>\n);\n", "list"],
    ["a.ts", "f({\n  a,\n  <|>\n});\n", "literal"],
    ["a.ts", "f(() => {\n  a;\n  <|>\n});\n", "block"],
    ["a.ts", "class A {\n  <|>\n}\n", "block"],
    ["a.ts", "switch (x) {\n  <|>\n}\n", "block"],
    ["a.ts", "interface A {\n  <|>\n}\n", "block"],
    ["a.py", "x = [\n    1,\n    <|>\n]\n", "literal"],
    ["a.py", "f(\n    <|>\n)\n", "list"],
    ["a.py", "def f():\n    <|>\n", "block"],
    ["a.rs", "struct A {\n    <|>\n}\n", "block"],
    ["a.go", "const (\n\t<|>\n)\n", "block"],
  ])("%s %j: %s", async (file, marked, container) => {
    await expect(scopeAt(file, marked)).resolves.toMatchObject({ container });
  });
});

describe("brackets at the cursor", () => {
  test.each([
    ["f(() => {\n  <|>\n});\n", ["}+", ")+"]],
    ["function f() {\n  <|>\n\nfunction g() {\n}\n", ["}-"]],
    ["class A {\n  f() {\n    <|>\n}\n", ["}-", "}+"]],
    ["class A {\n  f() {\n    <|>\n  }\n}\n", ["}+", "}+"]],
    ["f('(', <|>)", [")+"]],
    ["f(/* ( */ <|>", [")-"]],
    ["x = [a, (<|>", [")-", "]-"]],
  ])("%j: %j", async (marked, expected) => {
    const scope = await scopeAt("a.ts", marked);
    expect(scope?.brackets.map(({ closer, closed }) => closer + (closed ? "+" : "-"))).toEqual(
      expected,
    );
  });
});

test("there is no answer for a language without a grammar", async () => {
  await expect(scopeAt("a.txt", "f(<|>")).resolves.toBeUndefined();
});

test("finds strings and comments in a text, and code inside of them", async () => {
  const text = `'}' + \`{\${a}\` // }\n}`;
  const found = await syntax.literalsIn(siteIn("a.ts", "function f() {\n  x = <|>"), text);
  expect(found?.map(({ start, end }) => text.slice(start, end))).toEqual(["'}'", "{", "// }"]);
});

test("a long file is answered from a part that begins with a declaration", async () => {
  const before = "function g() {\n  return 1;\n}\n".repeat(3000);
  const marked = `${before}function f() {\n  <|>\n}\n${before}`;
  await scopeAt("a.ts", marked);
  const started = performance.now();
  const scope = await scopeAt("a.ts", marked);
  expect(performance.now() - started).toBeLessThan(1000);
  expect(scope).toEqual({
    within: "code",
    container: "block",
    opens: "block",
    brackets: [{ closer: "}", closed: true, indent: 0 }],
  });
});
