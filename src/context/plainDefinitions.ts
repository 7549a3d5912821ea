// Definitions that begin with a word of the language, found by their lines: where macros or text that does not parse
// hide them from the syntax tree.
import type { DefinitionFacts, DefinitionKind } from "./definitions.ts";

interface PlainRule {
  pattern: RegExp;
  /** By the word that the pattern captures first; the name is captured second. */
  kinds: Readonly<Record<string, DefinitionKind>>;
  /** What the lines inside of a type define, up to the bracket that closes it. */
  members?: readonly (readonly [RegExp, DefinitionKind])[];
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
  members: [
    [/^\s+(?:pub(?:\([^)]*\))?\s+)?([a-z_]\w*)\s*:(?!:)/, "field"],
    [/^\s+([A-Z]\w*)\s*(?:[({,=]|$)/, "member"],
  ],
};

const HOLDERS = new Set<DefinitionKind>(["class", "enum"]);
/** A type whose end is not found by then has none. */
const MOST_MEMBER_LINES = 300;

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
  const lines = text.split("\n");
  for (const [line, content] of lines.entries()) {
    if (content.length > 300 || COMMENT.test(content)) continue;
    const [, word = "", name = ""] = rule.pattern.exec(content) ?? [];
    if (name === "" || known.has(`${line} ${name}`)) continue;
    const kind = rule.kinds[word] ?? "macro";
    missing.push(factsAt(line, name, kind, ""));
    if (rule.members && HOLDERS.has(kind) && /\{\s*$/.test(content))
      missing.push(...membersBehind(lines, line, name, rule.members));
  }
  return missing;
}

function factsAt(
  line: number,
  name: string,
  kind: DefinitionKind,
  container: string,
): DefinitionFacts {
  return { name, kind, container, line, signatureEnd: line, endLine: line, docLine: line };
}

/** Members of the type that begins at `line`, one step further in. */
function membersBehind(
  lines: readonly string[],
  line: number,
  container: string,
  rules: NonNullable<PlainRule["members"]>,
): DefinitionFacts[] {
  const outer = indentOf(lines[line]);
  const members: DefinitionFacts[] = [];
  let inner = -1;
  for (let at = line + 1; at < Math.min(lines.length, line + MOST_MEMBER_LINES); at++) {
    const content = lines[at] ?? "";
    if (content.trim() === "" || COMMENT.test(content)) continue;
    const indent = indentOf(content);
    if (indent <= outer) break;
    if (inner < 0) inner = indent;
    if (indent !== inner) continue;
    for (const [pattern, kind] of rules) {
      const name = pattern.exec(content)?.[1];
      if (name !== undefined) members.push(factsAt(at, name, kind, container));
    }
  }
  return members;
}

function indentOf(line = ""): number {
  return line.length - line.trimStart().length;
}
