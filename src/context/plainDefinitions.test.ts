import { expect, test } from "vitest";
import { plainDefinitions } from "./plainDefinitions.ts";
import { Syntax } from "./syntax.ts";

test("finds what a macro hides from the syntax tree", async () => {
  const syntax = new Syntax();
  const text = `cfg_metrics! {
    impl Batch {
        pub(crate) fn count(&mut self) {}
    }
}
fn plain() {}
// fn comment() {}
`;
  await syntax.load(["a.rs"]);
  const names = syntax.definitions("a.rs", text).map(({ name, line }) => `${name}:${line}`);
  expect(names).toEqual(["count:2", "plain:5"]);
});

test("sees a class behind a macro of its head", async () => {
  const syntax = new Syntax();
  await syntax.load(["env.h"]);
  const text = "class STORE_EXPORT Env {\n public:\n  int Count() const;\n};\n";
  expect(syntax.definitions("env.h", text).map(({ name, kind }) => `${name} ${kind}`)).toEqual([
    "Env class",
    "Count method",
  ]);
});

test("says nothing twice, and nothing of languages that it does not know", () => {
  const text = "def one():\n    pass\n";
  const [one] = plainDefinitions(text, "python", []);
  expect(one).toMatchObject({ name: "one", kind: "function", line: 0 });
  expect(plainDefinitions(text, "python", one ? [one] : [])).toEqual([]);
  expect(plainDefinitions(text, "bash", [])).toEqual([]);
});

test("finds what a type holds that only a macro sees", () => {
  const text = `ast_struct! {
    pub struct Block {
        pub brace_token: token::Brace,
        /// Statements
        pub stmts: Vec<Stmt>,
    }
}
ast_enum! {
    pub enum Arguments {
        None,
        Bracketed(Angle),
    }
}
`;
  const found = plainDefinitions(text, "rust", []);
  expect(found.map(({ kind, container, name }) => `${kind} ${container}.${name}`)).toEqual([
    "class .Block",
    "field Block.brace_token",
    "field Block.stmts",
    "enum .Arguments",
    "member Arguments.None",
    "member Arguments.Bracketed",
  ]);
});
