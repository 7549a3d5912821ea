// From what an import says to files of the repository. Relative imports are followed exactly. Others are matched by
// the end of the path: module roots, source folders and aliases all put something in front of it and leave the end.
import { posix } from "node:path";
import type { ImportForm } from "./importStatements.ts";
import { type IndexedFile, type RepositoryIndex, stemOf } from "./repositoryIndex.ts";

/** Files that stand for their folder. */
const INDEX_STEMS = new Set(["index", "__init__", "mod", "lib", "main"]);
/** A namespace may have thousands of files; the nearest are enough. */
const MOST_FILES = 200;

/** Files that an import of `source` in the file at `path` means; none when it lies outside of the repository. */
export function resolveImport(
  index: RepositoryIndex,
  path: string,
  form: ImportForm,
  source: string,
): IndexedFile[] {
  const found = finders[form](index, path, source);
  return found.filter((file) => file.path !== path).slice(0, MOST_FILES);
}

type Finder = (index: RepositoryIndex, path: string, source: string) => IndexedFile[];

const finders: Readonly<Record<ImportForm, Finder>> = {
  script: (index, path, source) => {
    const bare = source.replace(/\.(?:[mc]?[jt]sx?|d\.ts)$/, "");
    if (bare.startsWith(".")) return atPath(index, posix.join(posix.dirname(path), bare));
    const segments = bare.replace(/^[@~#$]\//, "").split("/");
    const inPackage = packageFiles(index, segments);
    if (inPackage.length > 0) return inPackage;
    const isAlias = /^[@~#$]\//.test(bare);
    return byEnd(index, path, segments, isAlias ? 1 : 2);
  },
  python: (index, path, source) => {
    const dots = /^\.*/.exec(source)?.[0].length ?? 0;
    const segments = source.slice(dots).split(".").filter(Boolean);
    if (dots === 0) return byEnd(index, path, segments, Math.min(segments.length, 2));
    const base = posix.join(posix.dirname(path), "../".repeat(dots - 1));
    return atPath(index, posix.join(base, ...segments));
  },
  go: (index, path, source) => folderByEnd(index, path, source.split("/")),
  rust: (index, path, source) => rustFiles(index, path, source.split("::")),
  java: (index, path, source) => {
    const segments = source.split(".");
    if (segments.at(-1) === "*") return inNamespace(index, segments.slice(0, -1).join("."));
    const whole = byEnd(index, path, segments, 2);
    return whole.length > 0 ? whole : byEnd(index, path, segments.slice(0, -1), 2);
  },
  c: (index, path, source) => {
    const beside = index.files.get(posix.join(posix.dirname(path), source));
    if (beside) return [beside, ...twinSources(index, beside)];
    const ends = [...(index.stems.get(stemOf(source)) ?? [])].filter(
      (file) => file.path === source || file.path.endsWith(`/${source}`),
    );
    return nearest(ends, path, 1);
  },
  csharp: (index, _path, source) => inNamespace(index, source),
  php: (index, path, source) => byEnd(index, path, source.split("\\"), 1),
  ruby: (index, path, source) =>
    source.startsWith(".")
      ? atPath(index, posix.join(posix.dirname(path), source))
      : byEnd(index, path, source.split("/"), 1),
  bash: (index, path, source) => {
    const file = index.files.get(posix.join(posix.dirname(path), source.replace(/^\$\w+\//, "")));
    return file ? [file] : [];
  },
};

/** The module at a path without extension: the file itself, or the file that stands for the folder. */
function atPath(index: RepositoryIndex, path: string): IndexedFile[] {
  const wanted = posix.normalize(path).replace(/\/$/, "");
  const files = [...(index.stems.get(stemOf(wanted)) ?? [])].filter(
    (file) => withoutExtension(file.path) === wanted,
  );
  if (files.length > 0) return files;
  return [...(index.folders.get(wanted) ?? [])].filter((file) =>
    INDEX_STEMS.has(stemOf(file.path)),
  );
}

function withoutExtension(path: string): string {
  return path.replace(/(?:\.d)?\.[^./]+$/, "");
}

/** Files, and folders' index files, whose path ends with the most of `segments`; at least `least` of them. */
function byEnd(
  index: RepositoryIndex,
  path: string,
  segments: readonly string[],
  least: number,
): IndexedFile[] {
  let best: IndexedFile[] = [];
  let bestCount = Math.max(1, Math.min(least, segments.length)) - 1;
  const last = segments.at(-1) ?? "";
  const candidates = [...(index.stems.get(last) ?? [])];
  for (const stem of INDEX_STEMS)
    for (const file of index.stems.get(stem) ?? [])
      if (isNamed(file.folder, last)) candidates.push(file);
  for (const file of candidates) {
    const stem = stemOf(file.path);
    const own = stem === last ? posix.join(file.folder, stem) : file.folder;
    const count = commonEnd(own.split("/"), segments);
    if (count > bestCount) {
      best = [file];
      bestCount = count;
    } else if (count === bestCount && best.length > 0) best.push(file);
  }
  return nearest(best, path, 2);
}

/** Whether that is the last part of the path. */
function isNamed(folder: string, name: string): boolean {
  if (!folder.endsWith(name)) return false;
  return (
    folder.length === name.length || folder.charCodeAt(folder.length - name.length - 1) === SLASH
  );
}

function commonEnd(a: readonly string[], b: readonly string[]): number {
  let count = 0;
  while (count < a.length && count < b.length && a.at(-1 - count) === b.at(-1 - count)) count++;
  return count;
}

/** All files of the folder whose path ends with the most of `segments`. */
function folderByEnd(
  index: RepositoryIndex,
  path: string,
  segments: readonly string[],
): IndexedFile[] {
  let best = "";
  let bestCount = 0;
  const last = segments.at(-1) ?? "";
  for (const folder of index.folders.keys()) {
    if (!folder.endsWith(last)) continue;
    const count = commonEnd(folder.split("/"), segments);
    const isBetter =
      count > bestCount ||
      (count === bestCount &&
        (nearness(folder, path) - nearness(best, path) || (folder < best ? 1 : -1)) > 0);
    if (count > 0 && isBetter) {
      best = folder;
      bestCount = count;
    }
  }
  // One part alone is a coincidence, unless it is all there is below the module's root.
  const isEnough = bestCount > 1 || (bestCount === 1 && segments.length > 2 && !best.includes("/"));
  return isEnough ? [...(index.folders.get(best) ?? [])].filter(isProduct) : [];
}

function isProduct(file: IndexedFile): boolean {
  return !file.path.endsWith("_test.go");
}

function rustFiles(index: RepositoryIndex, path: string, parts: readonly string[]): IndexedFile[] {
  const own = INDEX_STEMS.has(stemOf(path)) ? posix.dirname(path) : withoutExtension(path);
  const [root = "", ...rest] = parts;
  let base: string | undefined;
  if (root === "self") base = own;
  else if (root === "super") base = posix.dirname(own);
  else if (root === "crate") base = crateRoot(path);
  const names = base === undefined ? parts : rest;
  for (let count = names.length; count >= (base === undefined ? 1 : 0); count--) {
    const head = names.slice(0, count).filter((name) => name !== "super");
    const found =
      base === undefined
        ? [...crateFiles(index, root, head.slice(1)), ...byEnd(index, path, head, 2)]
        : atPath(index, posix.join(base, ...head));
    if (found.length > 0) return found;
  }
  return [];
}

/** Files of another crate of the same workspace, by the name of its folder. */
function crateFiles(index: RepositoryIndex, crate: string, rest: readonly string[]): IndexedFile[] {
  const folders = [...index.folders.keys()].filter((folder) =>
    folder.replaceAll("-", "_").endsWith(`${crate}/src`),
  );
  return folders
    .sort()
    .slice(0, 2)
    .flatMap((folder) => atPath(index, posix.join(folder, ...rest)));
}

function crateRoot(path: string): string {
  const folder = posix.dirname(path);
  const at = `${folder}/`.lastIndexOf("src/");
  return at < 0 ? folder : folder.slice(0, at + 3);
}

/** Files of the package `@scope/name/rest` of the same repository, by the name of its folder. */
function packageFiles(index: RepositoryIndex, segments: readonly string[]): IndexedFile[] {
  const scoped = segments[0]?.startsWith("@") ? segments.slice(1) : segments;
  const [name, ...rest] = scoped;
  if (name === undefined) return [];
  for (const inner of ["src", "", "lib"]) {
    for (const parent of ["packages", "libs", "apps", "modules"]) {
      const found = atPath(index, posix.join(parent, name, inner, ...rest));
      if (found.length > 0) return found;
    }
  }
  return [];
}

function inNamespace(index: RepositoryIndex, name: string): IndexedFile[] {
  return [...(index.namespaces.get(name) ?? [])];
}

function twinSources(index: RepositoryIndex, header: IndexedFile): IndexedFile[] {
  const inline = index.stems.get(stemOf(header.path)) ?? [];
  return [...inline].filter((file) => /[-_.](?:inl|inc)\b/.test(file.path));
}

function nearest(files: readonly IndexedFile[], path: string, most: number): IndexedFile[] {
  return [...files]
    .sort((a, b) => nearness(b.path, path) - nearness(a.path, path) || (a.path < b.path ? -1 : 1))
    .slice(0, most);
}

/** Folders that two paths share, counted from the root. */
export function nearness(a: string, b: string): number {
  let count = 0;
  for (let i = 0; i < a.length && a.charCodeAt(i) === b.charCodeAt(i); i++)
    if (a.charCodeAt(i) === SLASH) count++;
  return count;
}

const SLASH = 47;
