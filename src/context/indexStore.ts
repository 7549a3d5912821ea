// Keeps an index on disk between starts: names and definitions, no text but the defining lines. Only its user may read it.
import { createHash } from "node:crypto";
import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { deserialize, serialize } from "node:v8";
import { crc32 } from "node:zlib";
import type { Definition, IndexedFile, RepositoryIndex } from "./repositoryIndex.ts";
import { languageOf } from "./syntax.ts";

/** Changes with every change of what is stored, how it is found, or what may be read at all. */
const FORMAT = 3;
const CHECKSUM_BYTES = 4;

type StoredFile = Omit<IndexedFile, "definitions" | "language"> & {
  definitions: Omit<Definition, "file">[];
};

interface StoredIndex {
  format: number;
  root: string;
  names: string[];
  files: StoredFile[];
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
  const bytes = serialize(storedForm(index, root));
  const checksum = Buffer.alloc(CHECKSUM_BYTES);
  checksum.writeUInt32LE(crc32(bytes));
  const target = fileOf(folder, root);
  const fresh = `${target}.${process.pid}`;
  try {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    await writeFile(fresh, [checksum, bytes], { mode: 0o600 });
    await rename(fresh, target);
    return true;
  } catch {
    // Read-only or full: the index in memory is whole.
    return false;
  }
}

/** The index with names of its own: the table in memory also holds what was typed at cursors, and that is nobody's file. */
function storedForm(index: RepositoryIndex, root: string): StoredIndex {
  const ids = new Int32Array(index.names.size).fill(-1);
  const names: string[] = [];
  const renamed = (id: number): number => {
    if (id < 0) return id;
    const known = ids[id] ?? -1;
    if (known >= 0) return known;
    ids[id] = names.length;
    return names.push(index.names.textOf(id)) - 1;
  };
  const files = [...index.files.values()].map(({ language: _, ...file }) => ({
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
  }));
  return { format: FORMAT, root, names, files };
}

export interface Restoring {
  folder: string;
  root: string;
  /** Files that may be read now; others stay on disk. */
  listed: ReadonlySet<string>;
}

/** Fills an empty index with what was stored for `root`; false when there is nothing that this version can read. */
export async function restoreIndex(
  index: RepositoryIndex,
  { folder, root, listed }: Restoring,
): Promise<boolean> {
  const stored = await readStored(fileOf(folder, root));
  if (stored?.format !== FORMAT || stored.root !== root) return false;
  for (const name of stored.names) index.names.add(name);
  for (const { definitions, ...rest } of stored.files) {
    if (!listed.has(rest.path)) continue;
    const file: IndexedFile = { ...rest, language: languageOf(rest.path), definitions: [] };
    // Not copied: the objects that were read share one shape.
    file.definitions = definitions.map((definition) => Object.assign(definition, { file }));
    index.insert(file);
  }
  return true;
}

async function readStored(file: string): Promise<StoredIndex | undefined> {
  try {
    const bytes = await readFile(file);
    const content = bytes.subarray(CHECKSUM_BYTES);
    // What carries its checksum was written by this file; its format says by which version.
    if (bytes.readUInt32LE() !== crc32(content)) return undefined;
    return deserialize(content) as StoredIndex;
  } catch {
    // Missing, or cut short by a crash: the index is built again.
    return undefined;
  }
}
