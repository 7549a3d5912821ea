/** File name extensions by VS Code's language identifiers, for documents that have no file name of their own. */
const EXTENSIONS: Readonly<Record<string, string>> = {
  bat: ".bat",
  c: ".c",
  cpp: ".cpp",
  csharp: ".cs",
  css: ".css",
  go: ".go",
  html: ".html",
  java: ".java",
  javascript: ".js",
  javascriptreact: ".jsx",
  json: ".json",
  julia: ".jl",
  lua: ".lua",
  markdown: ".md",
  php: ".php",
  python: ".py",
  r: ".r",
  ruby: ".rb",
  rust: ".rs",
  shellscript: ".sh",
  sql: ".sql",
  typescript: ".ts",
  typescriptreact: ".tsx",
  yaml: ".yaml",
};

/** With its dot; undefined for a language that is not known. */
export function extensionOf(languageId: string): string | undefined {
  return EXTENSIONS[languageId];
}
