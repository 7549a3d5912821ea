// How each language names the files that it uses. One expression per form; group 1 is the name.
export type Language = "script" | "python" | "go" | "rust" | "java" | "c";

export const languageOfExtension: Readonly<Record<string, Language>> = {
  ts: "script",
  tsx: "script",
  mts: "script",
  cts: "script",
  js: "script",
  jsx: "script",
  mjs: "script",
  cjs: "script",
  py: "python",
  pyi: "python",
  go: "go",
  rs: "rust",
  java: "java",
  c: "c",
  h: "c",
  cc: "c",
  cpp: "c",
  cxx: "c",
  hpp: "c",
  hh: "c",
  cu: "c",
  cuh: "c",
};

export const importPatterns: Readonly<Record<Language, readonly RegExp[]>> = {
  script: [
    /^\s*(?:import|export)\b[^;'"]*?\bfrom\s*["']([^"'\n]+)["']/gm,
    /^\s*import\s*["']([^"'\n]+)["']/gm,
    /\b(?:require|import)\(\s*["']([^"'\n]+)["']\s*\)/g,
  ],
  python: [/^\s*from\s+(\.*[\w.]*)\s+import\b/gm, /^\s*import\s+([\w.]+)/gm],
  go: [/^\s*(?:import\s+)?(?:[\w.]+\s+)?"([\w./-]+)"\s*$/gm],
  rust: [
    /^\s*(?:pub(?:\([^)]*\))?\s+)?mod\s+(\w+)\s*;/gm,
    /^\s*(?:pub\s+)?use\s+((?:crate|super|self)(?:::\w+)+)/gm,
  ],
  java: [/^\s*import\s+(?:static\s+)?([\w.]+)\s*;/gm],
  c: [/^\s*#\s*include\s*"([^"\n]+)"/gm],
};
