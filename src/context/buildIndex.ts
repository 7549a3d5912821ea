import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { RepositoryIndex } from "./repositoryIndex.ts";
import { Syntax } from "./syntax.ts";

/** What may be read of a workspace folder. */
export interface SourceFiles {
  /** Paths in the folder, with forward slashes. */
  list(): Promise<string[]>;
  /** Text of a file; undefined when there is none that may be read. */
  read(path: string): Promise<string | undefined>;
}

/** Reads and indexes every file of `sources`. */
export async function buildRepositoryIndex(
  sources: SourceFiles,
  onFile?: (done: number, of: number) => void,
): Promise<RepositoryIndex> {
  const index = new RepositoryIndex();
  const syntax = new Syntax();
  const paths = await sources.list();
  await syntax.load(paths);
  for (const [i, path] of paths.entries()) {
    const text = await sources.read(path);
    if (text !== undefined)
      index.update({ path, text, definitions: syntax.definitions(path, text) });
    onFile?.(i + 1, paths.length);
  }
  return index;
}

export function plainFiles(root: string, paths: readonly string[]): SourceFiles {
  return {
    list: async () => [...paths],
    read: (path) => readFile(join(root, path), "utf8"),
  };
}
