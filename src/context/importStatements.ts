// The import statements of a text, found by their form: a cursor asks many times a second, and half-typed code
// has no whole tree to ask.

export const importForms = [
  "script",
  "python",
  "go",
  "rust",
  "java",
  "c",
  "csharp",
  "php",
  "ruby",
  "bash",
] as const;
export type ImportForm = (typeof importForms)[number];

export interface ImportStatement {
  /** Lines from 0, both included. */
  line: number;
  endLine: number;
  /** As written: a module, a path or a namespace. */
  source: string;
  /** Names that it brings in. */
  names: string[];
}

type RawImport = Pick<ImportStatement, "source" | "names">;

interface FormRules {
  /** One match is one statement. */
  pattern: RegExp;
  read(match: RegExpExecArray): RawImport[];
}

const words = (text: string | undefined) => text?.match(/[\p{L}_$][\p{L}\d_$]*/gu) ?? [];
const lastWord = (text: string) => words(text).slice(-1);
const SCRIPT_WORDS = new Set([
  "import",
  "export",
  "from",
  "as",
  "type",
  "const",
  "let",
  "var",
  "typeof",
]);

const rules: Readonly<Record<ImportForm, readonly FormRules[]>> = {
  script: [
    {
      pattern:
        /^[ \t]*(?:import|export)\b([^;'"()=]*?)\bfrom[ \t]*["']([^"'\n]+)["']|^[ \t]*import[ \t]*["']([^"'\n]+)["']/gm,
      read: ([, names, source, alone]) => [
        {
          source: source ?? alone ?? "",
          names: words(names).filter((word) => !SCRIPT_WORDS.has(word)),
        },
      ],
    },
    {
      pattern:
        /^[ \t]*(?:const|let|var|import)\s+([\w$]+|\{[^}]*\})\s*=\s*(?:await\s+)?(?:require|import)\(\s*["']([^"'\n]+)["']\s*\)/gm,
      read: ([, names, source]) => [{ source: source ?? "", names: words(names) }],
    },
  ],
  python: [
    {
      pattern: /^[ \t]*from[ \t]+(\.*[\w.]*)[ \t]+import[ \t]*(\([^)]*\)|(?:[^\n\\]|\\\r?\n)*)/gm,
      read: ([, source, names]) => fromModule(source ?? "", names?.replace(/#.*/g, "") ?? ""),
    },
    {
      pattern:
        /^[ \t]*import[ \t]+([\w.]+(?:[ \t]+as[ \t]+\w+)?(?:[ \t]*,[ \t]*[\w.]+(?:[ \t]+as[ \t]+\w+)?)*)/gm,
      read: ([, list]) =>
        (list ?? "").split(",").map((item) => {
          const [source = "", alias] = item.trim().split(/\s+as\s+/);
          return { source, names: alias === undefined ? lastWord(source) : [alias] };
        }),
    },
  ],
  go: [
    {
      pattern: /^import[ \t]*(\([^)]*\)|(?:[\w.]+[ \t]+)?"[^"\n]+")/gm,
      read: ([, list]) =>
        [...(list ?? "").matchAll(/(?:([\w.]+)[ \t]+)?"([^"\n]+)"/g)].map(
          ([, alias, source = ""]) => ({
            source,
            names: alias === undefined ? lastWord(source) : [alias],
          }),
        ),
    },
  ],
  rust: [
    {
      pattern: /^[ \t]*(?:pub(?:\([^)]*\))?[ \t]+)?use[ \t]+([^;]+);/gm,
      read: ([, tree]) => useTree(tree ?? ""),
    },
    {
      pattern: /^[ \t]*(?:pub(?:\([^)]*\))?[ \t]+)?mod[ \t]+(\w+)[ \t]*;/gm,
      read: ([, name = ""]) => [{ source: `self::${name}`, names: [name] }],
    },
  ],
  java: [
    {
      pattern: /^[ \t]*import[ \t]+(?:static[ \t]+)?([\w.]+(?:\.\*)?)[ \t]*;/gm,
      read: ([, source = ""]) => [{ source, names: source.endsWith("*") ? [] : lastWord(source) }],
    },
  ],
  c: [
    {
      pattern: /^[ \t]*#[ \t]*include[ \t]*["<]([^">\n]+)[">]/gm,
      read: ([, source = ""]) => [{ source, names: [] }],
    },
  ],
  csharp: [
    {
      pattern:
        /^[ \t]*(?:global[ \t]+)?using[ \t]+(?:static[ \t]+)?(?:(\w+)[ \t]*=[ \t]*)?([\w.]+)[ \t]*;/gm,
      read: ([, alias, source = ""]) => [{ source, names: alias === undefined ? [] : [alias] }],
    },
  ],
  php: [
    {
      pattern:
        /^[ \t]*use[ \t]+(?:function[ \t]+|const[ \t]+)?([\w\\]+)(?:[ \t]+as[ \t]+(\w+))?[ \t]*;/gm,
      read: ([, source = "", alias]) => [
        { source, names: alias === undefined ? lastWord(source) : [alias] },
      ],
    },
  ],
  ruby: [
    {
      pattern: /^[ \t]*require(_relative)?[ \t]*\(?[ \t]*["']([^"'\n]+)["']/gm,
      read: ([, relative, source = ""]) => [
        { source: relative === undefined ? source : `./${source}`, names: [] },
      ],
    },
  ],
  bash: [
    {
      pattern: /^[ \t]*(?:source|\.)[ \t]+["']?([^"'\s;]+)/gm,
      read: ([, source = ""]) => [{ source, names: [] }],
    },
  ],
};

/** Imports usually stand at the head; a longer look costs time at each keystroke. UTF-16 units. */
const SEARCHED_UNITS = 60_000;

/** The import statements of `text`, in the order of its lines. */
export function importStatements(text: string, form: ImportForm): ImportStatement[] {
  const head = text.slice(0, SEARCHED_UNITS);
  const found: ImportStatement[] = [];
  for (const { pattern, read } of rules[form]) {
    pattern.lastIndex = 0;
    let at = 0;
    let line = 0;
    for (let match = pattern.exec(head); match; match = pattern.exec(head)) {
      line += newlines(head, at, match.index);
      at = match.index;
      const endLine = line + newlines(head, at, at + match[0].trimEnd().length);
      for (const raw of read(match)) found.push({ line, endLine, ...raw });
    }
  }
  return found.sort((a, b) => a.line - b.line);
}

function newlines(text: string, from: number, to: number): number {
  let count = 0;
  for (let i = text.indexOf("\n", from); i >= 0 && i < to; i = text.indexOf("\n", i + 1)) count++;
  return count;
}

/** Each name of `from source import …` may be a module of the package, under its own name or another. */
function fromModule(source: string, list: string): RawImport[] {
  const within = /(?:^|\.)$/.test(source) ? source : `${source}.`;
  const found: RawImport[] = [];
  const all: string[] = [];
  for (const item of list.split(",")) {
    const names = words(item).filter((word) => word !== "as");
    const [name] = names;
    if (name === undefined) continue;
    all.push(...names);
    found.push({ source: within + name, names: names.slice(-1) });
  }
  return [{ source, names: all }, ...found];
}

const MOST_USE_PATHS = 64;

/** `a::{b::C, d as E}` brings in C from a::b and E from a::d. */
function useTree(tree: string, prefix = ""): RawImport[] {
  const text = tree.replaceAll(/\s+/g, " ").trim();
  const brace = text.indexOf("{");
  if (brace >= 0 && text.endsWith("}")) {
    const inner = splitTop(text.slice(brace + 1, -1));
    return inner
      .flatMap((part) => useTree(part, prefix + text.slice(0, brace)))
      .slice(0, MOST_USE_PATHS);
  }
  if (text === "") return [];
  const [path = "", alias] = text.split(" as ");
  const source = prefix + path;
  if (source.endsWith("::*")) return [{ source: source.slice(0, -3), names: [] }];
  const own = path === "self" ? lastWord(prefix) : lastWord(source);
  return [
    {
      source: path === "self" ? prefix.replace(/::$/, "") : source,
      names: alias === undefined ? own : [...own, alias],
    },
  ];
}

/** Parts between the commas that stand in no inner braces. */
function splitTop(text: string): string[] {
  const parts: string[] = [];
  let depth = 0;
  let start = 0;
  for (let i = 0; i < text.length; i++) {
    const char = text[i];
    if (char === "{") depth++;
    else if (char === "}") depth--;
    else if (char === "," && depth === 0) {
      parts.push(text.slice(start, i));
      start = i + 1;
    }
  }
  parts.push(text.slice(start));
  return parts;
}
