// Keeps an index on disk between starts: names and definitions, no text but the defining lines. Only its user may read it.
// The file is a row of parts, each with its checksum and length in front: first the names, then some files at a time.
// Written and read as a whole, it would take as much memory as the index itself, on top of it.
import { createHash } from "node:crypto";
import { type FileHandle, mkdir, open, rename } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { deserialize, serialize } from "node:v8";
import { crc32 } from "node:zlib";
import type { Definition, IndexedFile, RepositoryIndex } from "./repositoryIndex.ts";
import { languageOf } from "./syntax.ts";

/** Changes with every change of what is stored, how it is found, or what may be read at all. */
const FORMAT = 4;
/** Checksum and length of a part. */
const HEAD_BYTES = 8;
const FILES_OF_PART = 100;

type StoredFile = Omit<IndexedFile, "definitions" | "language" | "slot"> & {
  definitions: Omit<Definition, "file">[];
};

/** The first part. */
interface StoredNames {
  format: number;
  root: string;
  names: string[];
}

/** Where indexes lie when nobody says otherwise. */
export function defaultStoreFolder(): string {
  return join(process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache"), "tidepool", "context");
}

function fileOf(folder: string, root: string): string {
  return join(folder, `${createHash("sha256").update(root).digest("hex").slice(0, 24)}.index`);
}

/** Writes the index of `root`; false when the folder cannot be written to, which costs the next start its time and nothing else. */
export async function saveIndex(
  index: RepositoryIndex,
  folder: string,
  root: string,
): Promise<boolean> {
  const target = fileOf(folder, root);
  const fresh = `${target}.${process.pid}`;
  try {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    const file = await open(fresh, "w", 0o600);
    try {
      for (const part of partsOf(index, root)) await writePart(file, part);
    } finally {
      await file.close();
    }
    await rename(fresh, target);
    return true;
  } catch {
    // Read-only or full: the index in memory is whole.
    return false;
  }
}

async function writePart(file: FileHandle, part: StoredNames | StoredFile[]): Promise<void> {
  const bytes = serialize(part);
  const head = Buffer.alloc(HEAD_BYTES);
  head.writeUInt32LE(crc32(bytes));
  head.writeUInt32LE(bytes.length, HEAD_BYTES / 2);
  await file.appendFile(head);
  await file.appendFile(bytes);
}

/** The index with names of its own: the table in memory also holds what was typed at cursors, and that is nobody's file. */
function* partsOf(index: RepositoryIndex, root: string): Generator<StoredNames | StoredFile[]> {
  const ids = new Int32Array(index.names.size).fill(-1);
  const names: string[] = [];
  const take = (id: number) => {
    if (id >= 0 && (ids[id] ?? 0) < 0) ids[id] = names.push(index.names.textOf(id)) - 1;
  };
  const files = [...index.files.values()];
  for (const { distinct, definitions } of files) {
    for (const id of distinct) take(id);
    for (const { name, container } of definitions) {
      take(name);
      take(container);
    }
  }
  yield { format: FORMAT, root, names };
  const renamed = (id: number) => ids[id] ?? -1;
  for (let i = 0; i < files.length; i += FILES_OF_PART)
    yield files.slice(i, i + FILES_OF_PART).map((file) => storedForm(file, renamed));
}

function storedForm(
  { language: _, slot: __, ...file }: IndexedFile,
  renamed: (id: number) => number,
): StoredFile {
  return {
    ...file,
    ids: file.ids.map(renamed),
    distinct: file.distinct.map(renamed),
    definitions: file.definitions.map((definition) => ({
      kind: definition.kind,
      line: definition.line,
      signatureEnd: definition.signatureEnd,
      endLine: definition.endLine,
      docLine: definition.docLine,
      name: renamed(definition.name),
      container: renamed(definition.container),
      text: definition.text,
      tail: definition.tail,
    })),
  };
}

export interface Restoring {
  folder: string;
  root: string;
  /** Files that may be read now; others stay on disk. */
  listed: ReadonlySet<string>;
}

/**
 * Fills an empty index with what was stored for `root`; false when there is nothing that this version can read. Behind
 * a damaged part nothing is taken: those files are read again.
 */
export async function restoreIndex(
  index: RepositoryIndex,
  { folder, root, listed }: Restoring,
): Promise<boolean> {
  let own: Uint32Array | undefined;
  for await (const part of readParts(fileOf(folder, root))) {
    if (!own) {
      const first = part as StoredNames;
      if (first.format !== FORMAT || first.root !== root) return false;
      own = Uint32Array.from(first.names, (name) => index.names.add(name));
    } else
      for (const stored of part as StoredFile[])
        if (listed.has(stored.path)) index.insert(restoredForm(stored, own));
  }
  return own !== undefined;
}

/** The file in names of the index, which may have been asked, and so have names, since it was made. */
function restoredForm({ definitions, ...rest }: StoredFile, own: Uint32Array): IndexedFile {
  const nameOf = (id: number) => own[id] ?? 0;
  const file: IndexedFile = {
    ...rest,
    slot: -1,
    language: languageOf(rest.path),
    // Copied, because what was read is a view of the part's bytes and would keep all of them.
    ids: rest.ids.map(nameOf),
    distinct: rest.distinct.map(nameOf),
    starts: rest.starts.slice(),
    definitions: [],
  };
  file.definitions = definitions.map((definition) => {
    definition.name = nameOf(definition.name);
    if (definition.container >= 0) definition.container = nameOf(definition.container);
    // Not copied: the objects that were read share one shape.
    return Object.assign(definition, { file });
  });
  return file;
}

/** Parts up to the first that is damaged; what carries its checksum was written by this file, its format says by which version. */
async function* readParts(path: string): AsyncGenerator {
  let file: FileHandle;
  try {
    file = await open(path);
  } catch {
    return; // Missing: the index is built.
  }
  try {
    const { size } = await file.stat();
    for (;;) {
      const head = await readBytes(file, HEAD_BYTES);
      const length = head?.readUInt32LE(HEAD_BYTES / 2) ?? 0;
      if (!head || length > size) return;
      const bytes = await readBytes(file, length);
      if (!bytes || head.readUInt32LE() !== crc32(bytes)) return;
      yield deserialize(bytes);
    }
  } finally {
    await file.close();
  }
}

/** The next `length` bytes; undefined when the file ends before. */
async function readBytes(file: FileHandle, length: number): Promise<Buffer | undefined> {
  const bytes = Buffer.allocUnsafeSlow(length);
  for (let done = 0; done < length; ) {
    const { bytesRead } = await file.read(bytes, done, length - done);
    if (bytesRead === 0) return undefined;
    done += bytesRead;
  }
  return bytes;
}
