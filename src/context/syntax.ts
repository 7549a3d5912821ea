// Loads grammars and their queries, and turns source text into definitions.
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import * as v from "valibot";
import { Language, Parser, Query, type Tree } from "web-tree-sitter";
import { type DefinitionFacts, definitionsOf } from "./definitions.ts";
import { type ImportForm, importForms } from "./importStatements.ts";
import { plainDefinitions } from "./plainDefinitions.ts";

const languageSchema = v.strictObject({
  extensions: v.array(v.string()),
  /** Module path of the grammar. */
  grammar: v.string(),
  imports: v.picklist(importForms),
  /** What a file sees without an import: all of its folder, all of its namespace, or nothing. */
  visible: v.picklist(["folder", "namespace", "nothing"]),
});

export interface SyntaxLanguage {
  id: string;
  grammar: string;
  imports: ImportForm;
  visible: "folder" | "namespace" | "nothing";
}

/**
 * A parse for the index is given up after so many of the parser's reports: such files are generated or hostile. Counted,
 * because a limit in time would leave definitions out, and keep it so, whenever the machine was busy. A megabyte takes
 * 3 000 to 10 000 of them, and each some 0.1 to 0.25 ms.
 */
const MOST_REPORTS = 12_000;

const folder = fileURLToPath(new URL("./languages/", import.meta.url));
const modules = createRequire(import.meta.url);

/** A build puts the wasm files beside the queries (scripts/lib/languages.mjs); the sources run with those of node_modules. */
function wasmFile(packed: string, modulePath: string): string {
  const beside = join(folder, packed);
  return existsSync(beside) ? beside : modules.resolve(modulePath);
}

function readLanguages(): Map<string, SyntaxLanguage> {
  const found = new Map<string, SyntaxLanguage>();
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    if (!entry.isDirectory()) continue;
    const json: unknown = JSON.parse(
      readFileSync(join(folder, entry.name, "language.json"), "utf8"),
    );
    const { extensions, ...rest } = v.parse(languageSchema, json);
    for (const extension of extensions) found.set(extension, { id: entry.name, ...rest });
  }
  return found;
}

let languages: Map<string, SyntaxLanguage> | undefined;

/** The language of a file by its extension; undefined for text without a grammar. */
export function languageOf(path: string): SyntaxLanguage | undefined {
  languages ??= readLanguages();
  return languages.get(path.slice(path.lastIndexOf(".") + 1).toLowerCase());
}

interface LoadedGrammar {
  parser: Parser;
  query: Query;
}

/** Grammars in use, each loaded once. */
export class Syntax {
  readonly #grammars = new Map<string, LoadedGrammar>();

  /** Loads the grammars that `paths` need. */
  async load(paths: Iterable<string>): Promise<void> {
    const wanted = new Map<string, SyntaxLanguage>();
    for (const path of paths) {
      const language = languageOf(path);
      if (language && !this.#grammars.has(language.id)) wanted.set(language.id, language);
    }
    if (wanted.size === 0) return;
    await Parser.init({
      locateFile: () => wasmFile("web-tree-sitter.wasm", "web-tree-sitter/web-tree-sitter.wasm"),
    });
    for (const language of wanted.values())
      this.#grammars.set(language.id, await loadGrammar(language));
  }

  /** Definitions in `text`, in the order of its lines; none when the grammar is not loaded. A parse that takes too long gives those that lines alone tell. */
  definitions(path: string, text: string): DefinitionFacts[] {
    const language = languageOf(path);
    const query = this.#grammarOf(path)?.query;
    if (!language || !query) return [];
    const source = readable(text, language);
    let reports = 0;
    const tree = this.#parse(path, source, () => ++reports > MOST_REPORTS);
    if (!tree) return plainDefinitions(source, language.id, []);
    try {
      const found = definitionsOf(query, tree.rootNode, text);
      return inOrder([...found, ...plainDefinitions(source, language.id, found)]);
    } catch {
      // Hostile text must not cost the other files their index.
      return plainDefinitions(source, language.id, []);
    } finally {
      tree.delete();
    }
  }

  /** The tree of `text`, which the caller deletes; undefined when the grammar is not loaded or the parse takes longer than `longestMs`. */
  parse(path: string, text: string, longestMs: number): Tree | undefined {
    const deadline = performance.now() + longestMs;
    return this.#parse(path, text, () => performance.now() > deadline);
  }

  #parse(path: string, text: string, isTooMuch: () => boolean): Tree | undefined {
    const parser = this.#grammarOf(path)?.parser;
    if (!parser) return undefined;
    try {
      const tree = parser.parse(text, null, { progressCallback: isTooMuch });
      if (tree) return tree;
    } catch {
      // A scanner that traps on some text must not cost the other files theirs.
    }
    parser.reset();
    return undefined;
  }

  #grammarOf(path: string): LoadedGrammar | undefined {
    const language = languageOf(path);
    return language && this.#grammars.get(language.id);
  }
}

function inOrder(definitions: DefinitionFacts[]): DefinitionFacts[] {
  return definitions.sort((a, b) => a.line - b.line);
}

/** `class EXPORT Name {`: what only a preprocessor understands is blanked out, so that a parser sees the class. */
const MACRO_IN_HEAD =
  /\b((?:class|struct|union)\s+)([A-Z][A-Z\d_]{2,}(?:\([^()\n]*\))?)(?=\s+[A-Za-z_]\w*)/g;

function readable(text: string, { id }: SyntaxLanguage): string {
  if (id !== "cpp") return text;
  return text.replace(
    MACRO_IN_HEAD,
    (_, head: string, macro: string) => head + " ".repeat(macro.length),
  );
}

async function loadGrammar({ id, grammar }: SyntaxLanguage): Promise<LoadedGrammar> {
  const wasm = readFileSync(wasmFile(join(id, "grammar.wasm"), grammar));
  const language = await Language.load(new Uint8Array(wasm));
  const parser = new Parser();
  parser.setLanguage(language);
  const source = readFileSync(join(folder, id, "definitions.scm"), "utf8");
  return { parser, query: new Query(language, source) };
}
