// Everything known of a repository's files: their definitions, and which names stand on which line. It holds no text
// but the defining lines; whoever wants more reads the file.
import { posix } from "node:path";
import type { DefinitionFacts } from "./definitions.ts";
import { detached } from "./detached.ts";
import { FileLists, NameLists } from "./fileLists.ts";
import { type ImportStatement, importStatements } from "./importStatements.ts";
import { type ScannedNames, scanNames } from "./nameScan.ts";
import { namespaceOf } from "./namespace.ts";
import { NameTable } from "./nameTable.ts";
import { COPY_PATH, TEST_PATH } from "./pathKinds.ts";
import { languageOf, type SyntaxLanguage } from "./syntax.ts";

/** Defining lines are cut here: a longer one is data. UTF-16 units. */
const LONGEST_LINE = 240;
/** Of a signature that goes on, no more than this is kept. UTF-16 units. */
const LONGEST_TAIL = 480;

export interface Definition extends Omit<DefinitionFacts, "name" | "container"> {
  file: IndexedFile;
  /** Ids in the index's name table; `container` is -1 at the top of the file. */
  name: number;
  container: number;
  /** The line of the name, as it stands in the file. */
  text: string;
  /** The lines after it up to the end of the signature; empty when there are none, or too many. */
  tail: string;
}

export interface IndexedFile extends ScannedNames {
  path: string;
  /** Its number among the files that the index holds now: a small one, so that figures by file can lie in an array. */
  slot: number;
  folder: string;
  language: SyntaxLanguage | undefined;
  namespace: string;
  /** By its path. */
  isTest: boolean;
  isCopy: boolean;
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
  readonly postings = new NameLists<IndexedFile>();
  readonly definitions = new NameLists<Definition>();
  /** By the name of the type or module around them. */
  readonly members = new NameLists<Definition>();
  readonly folders = new FileLists<IndexedFile>();
  readonly namespaces = new FileLists<IndexedFile>();
  /** By the last part of the path, without extension. */
  readonly stems = new FileLists<IndexedFile>();
  readonly #freeSlots: number[] = [];
  #slots = 0;

  /** All slots of files are below. */
  get slots(): number {
    return this.#slots;
  }

  /** Adds the file, or takes its new text in place of the old one. */
  update(source: FileSource): void {
    this.remove(source.path);
    this.insert(this.#read(source));
  }

  /** Adds a file that is not known yet and was made of this index's names. */
  insert(file: IndexedFile): void {
    file.slot = this.#freeSlots.pop() ?? this.#slots++;
    this.files.set(file.path, file);
    for (const name of file.distinct) this.postings.put(name, file);
    for (const definition of file.definitions) {
      this.definitions.put(definition.name, definition);
      if (definition.container >= 0) this.members.put(definition.container, definition);
    }
    this.folders.put(file.folder, file);
    if (file.namespace) this.namespaces.put(file.namespace, file);
    this.stems.put(stemOf(file.path), file);
  }

  /** Forgets the file; nothing happens when it is not known. */
  remove(path: string): void {
    const file = this.files.get(path);
    if (!file) return;
    this.files.delete(path);
    this.#freeSlots.push(file.slot);
    for (const name of file.distinct) this.postings.take(name, file);
    for (const definition of file.definitions) {
      this.definitions.take(definition.name, definition);
      if (definition.container >= 0) this.members.take(definition.container, definition);
    }
    this.folders.take(file.folder, file);
    if (file.namespace) this.namespaces.take(file.namespace, file);
    this.stems.take(stemOf(path), file);
  }

  #read({ path, text, changedMs, definitions }: FileSource): IndexedFile {
    const language = languageOf(path);
    const scanned = scanNames(text, this.names);
    const lines = text.split("\n");
    const file: IndexedFile = {
      path,
      slot: -1,
      folder: posix.dirname(path),
      changedMs,
      language,
      isTest: TEST_PATH.test(path),
      isCopy: COPY_PATH.test(path),
      namespace: detached(namespaceOf(text, language?.imports)),
      definitions: [],
      imports: language ? importStatements(text, language.imports).map(detachedImport) : [],
      distinct: Uint32Array.from(new Set(scanned.ids)),
      ...scanned,
    };
    // Written out, because a spread gives every object a shape of its own, which takes more than the object.
    file.definitions = definitions.map((facts) => ({
      kind: facts.kind,
      line: facts.line,
      signatureEnd: facts.signatureEnd,
      endLine: facts.endLine,
      docLine: facts.docLine,
      file,
      name: this.names.add(facts.name),
      container: facts.container === "" ? -1 : this.names.add(facts.container),
      text: detached(keptLine(lines[facts.line])),
      tail: detached(tailOf(lines, facts)),
    }));
    return file;
  }
}

function keptLine(line = ""): string {
  return line.replace(/\r$/, "").slice(0, LONGEST_LINE);
}

function tailOf(lines: readonly string[], { line, signatureEnd }: DefinitionFacts): string {
  if (signatureEnd === line) return "";
  const tail = lines
    .slice(line + 1, signatureEnd + 1)
    .map(keptLine)
    .join("\n");
  return tail.length <= LONGEST_TAIL ? tail : "";
}

/** File name without folder and extension. */
export function stemOf(path: string): string {
  return posix.basename(path).replace(/\..*$/, "");
}

function detachedImport({ line, endLine, source, names }: ImportStatement): ImportStatement {
  return { line, endLine, source: detached(source), names: names.map(detached) };
}
