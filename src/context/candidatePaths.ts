// Where an imported name may lie in the workspace. All paths are relative to it, with forward slashes.
import { posix } from "node:path";
import type { Language } from "./importPatterns.ts";

const SCRIPT_ENDINGS = [
  ".ts",
  ".tsx",
  ".d.ts",
  ".mts",
  ".js",
  ".jsx",
  ".mjs",
  "/index.ts",
  "/index.tsx",
  "/index.js",
];
const SOURCE_ROOTS = ["", "src/", "lib/"];

/** Possible files for `name` imported in `file`, likeliest first; those outside the workspace are left out. */
export function candidatePaths(name: string, file: string, language: Language): string[] {
  const folder = posix.dirname(file);
  const candidates = byLanguage[language](name, folder, file);
  return [...new Set(candidates.map((path) => posix.normalize(path)))].filter(
    (path) => path !== file && !path.startsWith("../") && !posix.isAbsolute(path),
  );
}

type Finder = (name: string, folder: string, file: string) => string[];

const byLanguage: Readonly<Record<Language, Finder>> = {
  script: (name, folder) => {
    if (!name.startsWith("."))
      return SOURCE_ROOTS.flatMap((root) => SCRIPT_ENDINGS.map((end) => `${root}${name}${end}`));
    const path = posix.join(folder, name);
    const swapped = path.replace(/\.([mc]?)jsx?$/, ".$1ts");
    return [path, swapped, ...SCRIPT_ENDINGS.map((end) => path + end)];
  },
  python: (name, folder) => {
    const dots = /^\.*/.exec(name)?.[0].length ?? 0;
    const rest = name.slice(dots).replaceAll(".", "/");
    const up = dots > 0 ? [posix.join(folder, "../".repeat(dots - 1))] : [folder, ...SOURCE_ROOTS];
    return up.flatMap((base) => [
      `${posix.join(base, rest)}.py`,
      posix.join(base, rest, "__init__.py"),
    ]);
  },
  go: (name) => {
    const parts = name.split("/");
    return parts
      .map((_, i) => parts.slice(i).join("/"))
      .map((path) => `${path}/${posix.basename(path)}.go`);
  },
  rust: (name, folder, file) => {
    const own = posix.basename(file, ".rs");
    const inside =
      own === "mod" || own === "lib" || own === "main" ? folder : posix.join(folder, own);
    if (!name.includes("::")) return rustModule(posix.join(inside, name));
    const [root, ...path] = name.split("::");
    const base =
      root === "crate" ? crateRoot(folder) : root === "super" ? posix.join(inside, "..") : inside;
    return path.flatMap((_, i) => rustModule(posix.join(base, ...path.slice(0, path.length - i))));
  },
  java: (name, folder) => {
    const path = `${name.replaceAll(".", "/")}.java`;
    const root = /^(.*?\bjava\/)/.exec(`${folder}/`)?.[1] ?? "";
    return [root + path, `src/main/java/${path}`, `src/${path}`];
  },
  c: (name, folder) => [posix.join(folder, name), name, `include/${name}`, `src/${name}`],
};

function rustModule(path: string): string[] {
  return [`${path}.rs`, `${path}/mod.rs`];
}

function crateRoot(folder: string): string {
  const at = `${folder}/`.lastIndexOf("src/");
  return at < 0 ? "src" : folder.slice(0, at + 3);
}
