// Everything known of a repository's files: their definitions, and which names stand on which line. It holds no text
// but the defining lines; whoever wants more reads the file.
import { posix } from "node:path";
import type { DefinitionFacts } from "./definitions.ts";
import { type ImportStatement, importStatements } from "./importStatements.ts";
import { type ScannedNames, scanNames } from "./nameScan.ts";
import { namespaceOf } from "./namespace.ts";
import { NameTable } from "./nameTable.ts";
import { languageOf, type SyntaxLanguage } from "./syntax.ts";

/** Defining lines are cut here: a longer one is data. UTF-16 units. */
const LONGEST_LINE = 240;

export interface Definition extends Omit<DefinitionFacts, "name" | "container"> {
  file: IndexedFile;
  /** Ids in the index's name table; `container` is -1 at the top of the file. */
  name: number;
  container: number;
  /** The line of the name, as it stands in the file. */
  text: string;
}

export interface IndexedFile extends ScannedNames {
  path: string;
  folder: string;
  language: SyntaxLanguage | undefined;
  namespace: string;
  definitions: Definition[];
  imports: ImportStatement[];
  /** The file's names without repetition. */
  distinct: Uint32Array;
  /** Last change on disk, milliseconds since 1970; 0 for text that was never saved. */
  changedMs: number;
}

/** What a file is indexed from; the parts that take a parse may come from another thread or the disk. */
export interface FileSource {
  path: string;
  text: string;
  changedMs: number;
  definitions: readonly DefinitionFacts[];
}

export class RepositoryIndex {
  readonly names = new NameTable();
  readonly files = new Map<string, IndexedFile>();
  /** Files in which a name stands. */
  readonly postings: (IndexedFile[] | undefined)[] = [];
  readonly definitions = new Map<number, Definition[]>();
  /** By the name of the type or module around them. */
  readonly members = new Map<number, Definition[]>();
  readonly folders = new Map<string, Set<IndexedFile>>();
  readonly namespaces = new Map<string, Set<IndexedFile>>();
  /** By the last part of the path, without extension; folders too, by their files. */
  readonly stems = new Map<string, Set<IndexedFile>>();

  /** Adds the file, or takes its new text in place of the old one. */
  update(source: FileSource): void {
    this.remove(source.path);
    this.insert(this.#read(source));
  }

  /** Adds a file that is not known yet and was made of this index's names. */
  insert(file: IndexedFile): void {
    this.files.set(file.path, file);
    for (const name of file.distinct) {
      const files = this.postings[name];
      if (files) files.push(file);
      else this.postings[name] = [file];
    }
    for (const definition of file.definitions) {
      push(this.definitions, definition.name, definition);
      if (definition.container >= 0) push(this.members, definition.container, definition);
    }
    addTo(this.folders, file.folder, file);
    if (file.namespace) addTo(this.namespaces, file.namespace, file);
    addTo(this.stems, stemOf(file.path), file);
  }

  /** Forgets the file; nothing happens when it is not known. */
  remove(path: string): void {
    const file = this.files.get(path);
    if (!file) return;
    this.files.delete(path);
    for (const name of file.distinct) drop(this.postings[name], file);
    for (const definition of file.definitions) {
      dropFrom(this.definitions, definition.name, definition);
      if (definition.container >= 0) dropFrom(this.members, definition.container, definition);
    }
    removeFrom(this.folders, file.folder, file);
    if (file.namespace) removeFrom(this.namespaces, file.namespace, file);
    removeFrom(this.stems, stemOf(path), file);
  }

  #read({ path, text, changedMs, definitions }: FileSource): IndexedFile {
    const language = languageOf(path);
    const scanned = scanNames(text, this.names);
    const lines = text.split("\n");
    const file: IndexedFile = {
      path,
      folder: posix.dirname(path),
      changedMs,
      language,
      namespace: namespaceOf(text, language?.imports),
      definitions: [],
      imports: language ? importStatements(text, language.imports) : [],
      distinct: Uint32Array.from(new Set(scanned.ids)),
      ...scanned,
    };
    file.definitions = definitions.map((facts) => ({
      ...facts,
      file,
      name: this.names.add(facts.name),
      container: facts.container === "" ? -1 : this.names.add(facts.container),
      text: detached((lines[facts.line] ?? "").replace(/\r$/, "").slice(0, LONGEST_LINE)),
    }));
    return file;
  }
}

/** File name without folder and extension. */
export function stemOf(path: string): string {
  return posix.basename(path).replace(/\..*$/, "");
}

/** A slice keeps the whole text that it was cut from alive; a copy does not. */
function detached(text: string): string {
  return Buffer.from(text).toString();
}

function push<K, T>(map: Map<K, T[]>, key: K, value: T): void {
  const list = map.get(key);
  if (list) list.push(value);
  else map.set(key, [value]);
}

function drop<T>(list: T[] | undefined, value: T): void {
  const at = list?.indexOf(value) ?? -1;
  if (at >= 0) list?.splice(at, 1);
}

function dropFrom<K, T>(map: Map<K, T[]>, key: K, value: T): void {
  const list = map.get(key);
  drop(list, value);
  if (list?.length === 0) map.delete(key);
}

function addTo<T>(map: Map<string, Set<T>>, key: string, value: T): void {
  const set = map.get(key);
  if (set) set.add(value);
  else map.set(key, new Set([value]));
}

function removeFrom<T>(map: Map<string, Set<T>>, key: string, value: T): void {
  const set = map.get(key);
  set?.delete(value);
  if (set?.size === 0) map.delete(key);
}
