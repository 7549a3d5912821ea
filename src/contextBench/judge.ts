// What counts as a definition when a context is judged. These are plain patterns over lines, on purpose not the syntax
// trees that the index is made of: an index is not judged by what it believes itself.

export const benchLanguages = ["TypeScript", "Python", "Go", "Rust", "Java", "C++", "C#"] as const;
export type BenchLanguage = (typeof benchLanguages)[number];

const extensions: Readonly<Record<string, BenchLanguage>> = {
  ts: "TypeScript",
  tsx: "TypeScript",
  mts: "TypeScript",
  py: "Python",
  go: "Go",
  rs: "Rust",
  java: "Java",
  cc: "C++",
  cpp: "C++",
  cxx: "C++",
  h: "C++",
  hh: "C++",
  hpp: "C++",
  inl: "C++",
  cs: "C#",
};

/** The language of a file by its extension; undefined for those that the benchmark does not measure. */
export function benchLanguageOf(path: string): BenchLanguage | undefined {
  return extensions[path.slice(path.lastIndexOf(".") + 1)];
}

const JAVA_MODIFIER =
  "(?:public|protected|private|static|final|abstract|synchronized|native|default|volatile|transient)";
const CSHARP_MODIFIER =
  "(?:public|protected|private|internal|static|readonly|abstract|sealed|override|virtual|async|unsafe|extern|partial|const|new|volatile|event)";
const TYPE = String.raw`[\w$.:<>\[\],?&* ]+?`;

interface JudgedPatterns {
  /** What these match is a definition wherever it stands. */
  anywhere: readonly RegExp[];
  /** These hold only right inside of a type or a block of constants. */
  inType: readonly RegExp[];
}

const NOT_A_TYPE =
  "(?!(?:return|else|new|delete|throw|case|goto|using|if|for|while|switch|await|yield|assert|package|import)\\b)";

/** Each captures the name. Several may match on one line. */
const patterns: Readonly<Record<BenchLanguage, JudgedPatterns>> = {
  TypeScript: {
    anywhere: [
      /^\s*(?:export\s+)?(?:default\s+)?(?:declare\s+)?(?:abstract\s+)?(?:async\s+)?(?:function\s*\*?|class|interface|type|enum|namespace)\s+([\w$]+)/,
      /^(?:export\s+)?(?:declare\s+)?(?:const|let|var)\s+([\w$]+)/,
    ],
    inType: [
      /^\s+(?:(?:public|private|protected|static|readonly|abstract|override|async|get|set|declare)\s+)*([\w$]+)\s*[?!]?\s*(?:<[^>]*>)?\s*[(:=;]/,
      /^\s+([A-Z]\w*)\s*(?:=.*)?,\s*$/,
    ],
  },
  Python: {
    anywhere: [
      /^\s*(?:async\s+)?(?:def|class)\s+(\w+)/,
      /^(\w+)\s*(?::[^=]+)?=[^=]/,
      /^\s+self\.(\w+)\s*(?::[^=]+)?=[^=]/,
    ],
    inType: [/^\s+(\w+)\s*(?::[^=]+)?=[^=]/, /^\s+(\w+)\s*:\s*[A-Z"'a-z][\w.[\], |"']*$/],
  },
  Go: {
    anywhere: [/^func\s+(?:\([^)]*\)\s*)?(\w+)/, /^type\s+(\w+)/, /^(?:const|var)\s+(\w+)/],
    inType: [
      /^\t([A-Za-z]\w*)(?:\s+[\w*[\].{}()]+)?\s*=\s/,
      /^\t([A-Z]\w*)\(.*\)\s*[\w*(.[\], )]*$/,
      /^\t([A-Za-z]\w*)\s+(?:\[|\*|map\[|chan |func\(|[\w.]+).*$/,
    ],
  },
  Rust: {
    anywhere: [
      /^\s*(?:pub(?:\([^)]*\))?\s+)?(?:default\s+)?(?:const\s+)?(?:async\s+)?(?:unsafe\s+)?(?:extern\s+"[^"]*"\s+)?fn\s+(\w+)/,
      /^\s*(?:pub(?:\([^)]*\))?\s+)?(?:unsafe\s+)?(?:struct|enum|union|trait|type|mod)\s+(\w+)/,
      /^\s*(?:pub(?:\([^)]*\))?\s+)?(?:const|static)\s+(?:mut\s+)?(\w+)\s*:/,
      /^\s*macro_rules!\s*(\w+)/,
    ],
    inType: [
      /^\s+(?:pub(?:\([^)]*\))?\s+)?([a-z_]\w*)\s*:\s*[\w&<>:' [\](),]+,?\s*$/,
      /^\s+([A-Z]\w*)(?:\s*[({].*|\s*=.*)?,?\s*$/,
    ],
  },
  Java: {
    anywhere: [/^\s*(?:[\w@]+\s+)*(?:class|interface|enum|record|@interface)\s+(\w+)/],
    inType: [
      new RegExp(
        String.raw`^\s+${NOT_A_TYPE}(?:@\w+\s+)*(?:${JAVA_MODIFIER}\s+)*(?:<[^>]+>\s+)?\w${TYPE}\s+(\w+)\s*[(;=,]`,
      ),
      new RegExp(String.raw`^\s+(?:${JAVA_MODIFIER}\s+)*(\w+)\s*\(`),
      /^\s+([A-Z][A-Z\d_]+)\s*(?:\(.*\))?\s*[,;{]\s*$/,
    ],
  },
  "C++": {
    anywhere: [
      /^\s*(?:template\s*<[^>]*>\s*)?(?:typedef\s+)?(?:class|struct|union|enum(?:\s+class)?|namespace|concept)\s+(?:[A-Z_\d]+\s+)?(\w+)[^;]*$/,
      /^\s*#\s*define\s+(\w+)/,
      /^\s*using\s+(\w+)\s*=/,
      /^\s*typedef\s+.*\b(\w+)\s*;/,
      new RegExp(String.raw`^${NOT_A_TYPE}(?:[\w:<>,~]+[&*\s]+)+(?:[\w:]+::)?(\w+)\s*\(`),
    ],
    inType: [
      new RegExp(String.raw`^\s*${NOT_A_TYPE}(?:[\w:<>,~]+[&*\s]+)+(\w+)\s*\(`),
      new RegExp(
        String.raw`^\s+${NOT_A_TYPE}[\w:<>, ]+[&*\s]+(\w+)(?:\[[^\]]*\])?\s*(?:=[^=].*|\{.*\})?;`,
      ),
      /^\s+(k?[A-Z]\w+)\s*(?:=\s*[^;()]+)?,?\s*(?:\/\/.*)?$/,
    ],
  },
  "C#": {
    anywhere: [
      /^\s*(?:[\w[\]]+\s+)*(?:class|interface|enum|struct|record|delegate\s+[\w<>[\], ]+)\s+(\w+)/,
    ],
    inType: [
      new RegExp(
        String.raw`^\s+${NOT_A_TYPE}(?:${CSHARP_MODIFIER}\s+)*\w${TYPE}\s+(?:[\w<>]+\.)*(\w+)\s*(?:<[^>]*>)?\s*(?:[({;=]|$)`,
      ),
      new RegExp(String.raw`^\s+(?:${CSHARP_MODIFIER}\s+)*(\w+)\s*\(`),
      /^\s+([A-Z]\w+)\s*(?:=\s*[^;()]+)?,?\s*(?:\/\/.*)?$/,
    ],
  },
};

const KEYWORDS = new Set(
  `abstract as assert constructor async await auto base bool boolean break byte case catch char chan class const constexpr continue crate
  def default defer del delete do double dyn elif else end enum except explicit export extends extern false False final
  finally fn float fn for foreach from func function get global go goto if impl implements import in inline int interface internal
  is lambda let long loop match mod module move mut namespace native new nil None nonlocal not null nullptr object operator or
  override package params pass private protected pub public raise range readonly ref register return sealed self Self select
  set short signed sizeof static string struct super switch synchronized template this throw throws trait true True try type
  typedef typeof typename uint union unsafe unsigned use using var virtual void volatile where while with yield
  undefined number any never unknown str usize isize error`.split(/\s+/),
);

/** Names shorter than this are too common to be judged. */
const SHORTEST_NAME = 3;

export function isJudgedName(name: string): boolean {
  return name.length >= SHORTEST_NAME && !KEYWORDS.has(name);
}

/** Defining lines of one file by the name that they define, without the blanks around them. */
export function definingLines(text: string, language: BenchLanguage): Map<string, Set<string>> {
  const found = new Map<string, Set<string>>();
  const lines = withoutBlockComments(text, language).split("\n");
  const { anywhere, inType } = patterns[language];
  const inside = linesInTypes(lines, language);
  for (const [i, line] of lines.entries()) {
    if (line.length > 300 || isComment(line)) continue;
    for (const pattern of inside[i] ? [...anywhere, ...inType] : anywhere) {
      const name = pattern.exec(line)?.[1];
      if (name === undefined || !isJudgedName(name)) continue;
      const known = found.get(name);
      if (known) known.add(line.trim());
      else found.set(name, new Set([line.trim()]));
    }
  }
  return found;
}

function withoutBlockComments(text: string, language: BenchLanguage): string {
  if (language === "Python") return withoutLongStrings(text, language);
  return text.replace(/^\s*\/\*[\s\S]*?\*\//gm, (comment) => comment.replace(/[^\n]/g, " "));
}

const TYPE_HEAD =
  /\b(?:class|struct|interface|enum|union|trait|impl|record|namespace)\b(?!.*\bfn\b).*\{$|^\s*(?:const|var|type)\s*\($/;

/** For each line whether it begins right inside of a type: by braces, in Python by indentation. */
function linesInTypes(lines: readonly string[], language: BenchLanguage): boolean[] {
  if (language === "Python") return linesInClasses(lines);
  const isGo = language === "Go";
  const open: { isType: boolean; head: string }[] = [];
  let head = "";
  return lines.map((line) => {
    const isInside = open.at(-1)?.isType === true;
    if (isComment(line)) return isInside;
    const code = line.replace(/"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)'|\/\/.*$/g, "");
    for (const char of code) {
      if (char === "{" || char === "(") {
        open.push({ isType: TYPE_HEAD.test(`${head}${char}`) && (char === "{" || isGo), head });
        head = "";
      } else if (char === "}" || char === ")")
        head = (char === ")" && open.length > 0 ? open.pop()?.head : void open.pop()) ?? "";
      else head = char === ";" ? "" : head + char;
    }
    head += " ";
    return isInside;
  });
}

function linesInClasses(lines: readonly string[]): boolean[] {
  const open: { indent: number; isClass: boolean }[] = [];
  return lines.map((line) => {
    if (line.trim() === "") return false;
    const indent = line.length - line.trimStart().length;
    while ((open.at(-1)?.indent ?? -1) >= indent) open.pop();
    const isInside = open.at(-1)?.isClass === true;
    const word = /^\s*(?:async\s+)?(class|def|if|for|while|with|try|else|except)\b/.exec(line)?.[1];
    if (word !== undefined) open.push({ indent, isClass: word === "class" });
    return isInside;
  });
}

/** A line of nothing but a comment, or what a preprocessor or decorator line says. */
export function isComment(line: string): boolean {
  return /^\s*(?:\/\/|\/\*|\*|#(?!\s*define)|""")/.test(line);
}

const imports: Readonly<Record<BenchLanguage, RegExp>> = {
  TypeScript:
    /^[ \t]*(?:import|export)\b[^;'"()=]*?\bfrom[ \t]*["'][^"'\n]+["'].*|^[ \t]*import[ \t]*["'].*/gm,
  Python:
    /^[ \t]*from[ \t]+\S+[ \t]+import[ \t]*(?:\([^)]*\)|(?:[^\n\\]|\\\n)*)|^[ \t]*import[ \t].*/gm,
  Go: /^import[ \t]*(?:\([^)]*\)|.*)|^package .*/gm,
  Rust: /^[ \t]*(?:pub(?:\([^)]*\))?[ \t]+)?use[ \t][^;]*;|^[ \t]*(?:pub[ \t]+)?mod[ \t]+\w+;/gm,
  Java: /^[ \t]*(?:import|package)[ \t].*/gm,
  "C++": /^[ \t]*#[ \t]*include.*|^[ \t]*using[ \t]+(?:namespace[ \t]+)?[\w:]+;/gm,
  "C#": /^[ \t]*(?:global[ \t]+)?using[ \t]+(?:static[ \t]+)?[\w.=< >]+;/gm,
};

/** The text with its import statements blanked out; lines and offsets stay where they are. */
export function withoutImports(text: string, language: BenchLanguage): string {
  return text.replace(imports[language], (statement) => statement.replace(/[^\n]/g, " "));
}

/** The text with Python's strings over several lines blanked out, docstrings above all; their words define and use nothing. */
export function withoutLongStrings(text: string, language: BenchLanguage): string {
  if (language !== "Python") return text;
  return text.replace(/("""|''')[\s\S]*?\1/g, (long) => long.replace(/[^\n]/g, " "));
}
