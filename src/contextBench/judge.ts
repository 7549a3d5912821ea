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

/** Each captures the name. Several may match on one line. */
const patterns: Readonly<Record<BenchLanguage, readonly RegExp[]>> = {
  TypeScript: [
    /^\s*(?:export\s+)?(?:default\s+)?(?:declare\s+)?(?:abstract\s+)?(?:async\s+)?(?:function\s*\*?|class|interface|type|enum|namespace)\s+([\w$]+)/,
    /^(?:export\s+)?(?:declare\s+)?(?:const|let|var)\s+([\w$]+)/,
    /^\s+(?:(?:public|private|protected|static|readonly|abstract|override|async|get|set|declare)\s+)+([\w$]+)\s*[?!]?\s*[(:=<;]/,
    /^\s+([\w$]+)\??\s*(?:<[^>]*>)?\([^)]*\)?.*(?:\{|:\s*[^=,]+;)\s*$/,
    /^ {2,4}(?:readonly\s+)?([\w$]+)\??:\s*[^,]+;\s*$/,
  ],
  Python: [
    /^\s*(?:async\s+)?(?:def|class)\s+(\w+)/,
    /^(\w+)\s*(?::[^=]+)?=[^=]/,
    /^\s+self\.(\w+)\s*(?::[^=]+)?=[^=]/,
    /^ {4}(\w+)\s*(?::\s*[\w.[\], |"']+)?\s*=[^=]/,
    /^ {4}(\w+)\s*:\s*[A-Z"'][\w.[\], |"']*$/,
  ],
  Go: [
    /^func\s+(?:\([^)]*\)\s*)?(\w+)/,
    /^type\s+(\w+)/,
    /^(?:const|var)\s+(\w+)/,
    /^\t([A-Za-z]\w*)\s+(?:=|[\w*[\].{}()]+\s*=)\s/,
    /^\t([A-Z]\w*)\(.*\)\s*[\w*(.[\], )]*$/,
    /^\t([A-Za-z]\w*)\s+(?:\[\]|\*|map\[|chan |func\(|[\w.]+)[\w.*[\]]*(?:\s*`.*)?\s*(?:\/\/.*)?$/,
  ],
  Rust: [
    /^\s*(?:pub(?:\([^)]*\))?\s+)?(?:default\s+)?(?:const\s+)?(?:async\s+)?(?:unsafe\s+)?(?:extern\s+"[^"]*"\s+)?fn\s+(\w+)/,
    /^\s*(?:pub(?:\([^)]*\))?\s+)?(?:unsafe\s+)?(?:struct|enum|union|trait|type|mod)\s+(\w+)/,
    /^\s*(?:pub(?:\([^)]*\))?\s+)?(?:const|static)\s+(?:mut\s+)?(\w+)\s*:/,
    /^\s*macro_rules!\s*(\w+)/,
    /^\s+(?:pub(?:\([^)]*\))?\s+)?([a-z_]\w*)\s*:\s*[\w&<>:' [\](),]+,\s*$/,
    /^ {4}([A-Z]\w*)(?:\s*[({].*|\s*=.*)?,?\s*$/,
  ],
  Java: [
    /^\s*(?:[\w@]+\s+)*(?:class|interface|enum|record|@interface)\s+(\w+)/,
    new RegExp(
      String.raw`^\s+(?:@\w+\s+)*(?:${JAVA_MODIFIER}\s+)+(?:<[^>]+>\s+)?${TYPE}\s+(\w+)\s*[(;=]`,
    ),
    new RegExp(String.raw`^\s+(?:${JAVA_MODIFIER}\s+)+(\w+)\s*\(`),
    /^ {2,4}(?:<[^>]+>\s+)?[\w$.<>[\],? ]+\s+(\w+)\s*\([^)]*\)\s*(?:throws [\w, .]+)?[;{]\s*$/,
    /^\s+([A-Z][A-Z\d_]+)\s*(?:\(.*\))?\s*[,;{]\s*$/,
  ],
  "C++": [
    /^\s*(?:template\s*<[^>]*>\s*)?(?:typedef\s+)?(?:class|struct|union|enum(?:\s+class)?|namespace|concept)\s+(?:[A-Z_\d]+\s+)?(\w+)[^;]*$/,
    /^\s*#\s*define\s+(\w+)/,
    /^\s*using\s+(\w+)\s*=/,
    /^\s*typedef\s+.*\b(\w+)\s*;/,
    /^\s*(?!return\b|else\b|new\b|delete\b|throw\b|case\b|if\b|for\b|while\b|switch\b)(?:[\w:<>,~]+[&*\s]+)+(?:[\w:]+::)?(\w+)\s*\([^;{]*(?:\)[\w\s&]*(?:=\s*(?:0|default|delete))?[;{]?)?\s*(?:\/\/.*)?$/,
    /^\s+(?!return\b|else\b|new\b|delete\b|throw\b|case\b|goto\b|using\b)(?:(?:const|static|mutable|constexpr|unsigned)\s+)*[\w:<>, ]+[&*\s]+(\w+)(?:\[[^\]]*\])?\s*(?:=[^=].*|\{.*\})?;/,
    /^\s+(k?[A-Z]\w+)\s*(?:=\s*[^,;()]+)?,\s*(?:\/\/.*)?$/,
  ],
  "C#": [
    /^\s*(?:[\w[\]]+\s+)*(?:class|interface|enum|struct|record|delegate\s+[\w<>[\], ]+)\s+(\w+)/,
    new RegExp(
      String.raw`^\s+(?:${CSHARP_MODIFIER}\s+)+${TYPE}\s+(?:[\w<>]+\.)*(\w+)\s*(?:<[^>]*>)?\s*(?:[({;=]|$)`,
    ),
    new RegExp(String.raw`^\s+(?:${CSHARP_MODIFIER}\s+)+(\w+)\s*\(`),
    /^\s+[\w<>[\],.?]+\s+(\w+)\s*(?:\([^)]*\)\s*;|\{\s*(?:get|set)\b)/,
    /^\s+([A-Z]\w+)\s*(?:=\s*[^,;()]+)?,\s*$/,
  ],
};

const KEYWORDS = new Set(
  `abstract as assert async await auto base bool boolean break byte case catch char chan class const constexpr continue crate
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
  for (const line of text.split("\n")) {
    if (line.length > 300 || isComment(line)) continue;
    for (const pattern of patterns[language]) {
      const name = pattern.exec(line)?.[1];
      if (name === undefined || !isJudgedName(name)) continue;
      const lines = found.get(name);
      if (lines) lines.add(line.trim());
      else found.set(name, new Set([line.trim()]));
    }
  }
  return found;
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
