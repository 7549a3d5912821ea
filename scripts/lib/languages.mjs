// The languages that the context index parses. A checkout finds queries in src/ and grammars in node_modules; in dist/
// both lie in one folder for each language, where src/context/syntax.ts looks first.
import { readdirSync, readFileSync } from "node:fs";
import { copyFile, mkdir, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import path from "node:path";
import { inRoot } from "./paths.mjs";

const source = inRoot("src", "context", "languages");
const modules = createRequire(import.meta.url);
const PARSER = "web-tree-sitter.wasm";

/** What `copyLanguages` makes: file in the target folder, and where it comes from. */
function languageFiles() {
  const files = [{ to: PARSER, from: modules.resolve(`web-tree-sitter/${PARSER}`) }];
  for (const entry of readdirSync(source, { withFileTypes: true })) {
    if (!entry.isDirectory()) continue;
    const { name } = entry;
    for (const file of ["language.json", "definitions.scm"])
      files.push({ to: `${name}/${file}`, from: path.join(source, name, file) });
    const { grammar } = JSON.parse(readFileSync(path.join(source, name, "language.json"), "utf8"));
    files.push({ to: `${name}/grammar.wasm`, from: modules.resolve(grammar) });
  }
  return files;
}

/** Names of all files in dist/languages, with forward slashes. */
export const languageFileNames = () => languageFiles().map(({ to }) => to);

/** Fills `target` with queries, grammars and the parser, and with nothing else. */
export async function copyLanguages(target) {
  await rm(target, { recursive: true, force: true });
  for (const { to, from } of languageFiles()) {
    const file = path.join(target, to);
    await mkdir(path.dirname(file), { recursive: true });
    await copyFile(from, file);
  }
}
