// Definitions that begin with a word of the language, found by their lines: where macros or text that does not parse
// hide them from the syntax tree.
import type { DefinitionFacts, DefinitionKind } from "./definitions.ts";

interface PlainRule {
  pattern: RegExp;
  /** By the word that the pattern captures first; the name is captured second. */
  kinds: Readonly<Record<string, DefinitionKind>>;
}

const rust: PlainRule = {
  pattern:
    /^[ \t]*(?:pub(?:\([^)]*\))?\s+)?(?:(?:default|const|async|unsafe|extern\s+"[^"]*")\s+)*(fn|struct|enum|union|trait|type|mod|const|static|macro_rules!)\s+(?:mut\s+)?([A-Za-z_]\w*)/,
  kinds: {
    fn: "function",
    struct: "class",
    union: "class",
    enum: "enum",
    trait: "interface",
    type: "type",
    mod: "module",
    const: "constant",
    static: "constant",
    "macro_rules!": "macro",
  },
};

const rules: Readonly<Record<string, PlainRule>> = {
  rust,
  python: {
    pattern: /^[ \t]*(?:async\s+)?(def|class)\s+([A-Za-z_]\w*)/,
    kinds: { def: "function", class: "class" },
  },
  go: {
    pattern: /^(func|type)\s+(?:\([^)]*\)\s*)?([A-Za-z_]\w*)/,
    kinds: { func: "function", type: "class" },
  },
  cpp: {
    pattern: /^[ \t]*(class|struct|#[ \t]*define)\s+([A-Za-z_]\w*)(?![^{]*;)/,
    kinds: { class: "class", struct: "class" },
  },
  java: {
    pattern:
      /^[ \t]*(?:(?:public|protected|private|static|final|abstract)\s+)*(class|interface|enum)\s+([A-Za-z_]\w*)/,
    kinds: { class: "class", interface: "interface", enum: "enum" },
  },
  csharp: {
    pattern:
      /^[ \t]*(?:(?:public|protected|private|internal|static|sealed|abstract|partial|unsafe)\s+)*(class|interface|enum|struct)\s+([A-Za-z_]\w*)/,
    kinds: { class: "class", interface: "interface", enum: "enum", struct: "class" },
  },
  typescript: {
    pattern:
      /^[ \t]*(?:export\s+)?(?:default\s+)?(?:declare\s+)?(?:abstract\s+)?(?:async\s+)?(function|class|interface|enum)\s+([A-Za-z_$][\w$]*)/,
    kinds: { function: "function", class: "class", interface: "interface", enum: "enum" },
  },
};

const COMMENT = /^\s*(?:\/\/|\/\*|\*|""")/;

/** Definitions of `text` that are not among those `found` by the tree. */
export function plainDefinitions(
  text: string,
  language: string,
  found: readonly DefinitionFacts[],
): DefinitionFacts[] {
  const rule = rules[language === "tsx" ? "typescript" : language];
  if (!rule) return [];
  const known = new Set(found.map(({ line, name }) => `${line} ${name}`));
  const missing: DefinitionFacts[] = [];
  for (const [line, content] of text.split("\n").entries()) {
    if (content.length > 300 || COMMENT.test(content)) continue;
    const [, word = "", name = ""] = rule.pattern.exec(content) ?? [];
    if (name === "" || known.has(`${line} ${name}`)) continue;
    const kind = rule.kinds[word] ?? "macro";
    const at = { line, signatureEnd: line, endLine: line, docLine: line };
    missing.push({ name, kind, container: "", ...at });
  }
  return missing;
}
