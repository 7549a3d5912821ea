// Reads what a guard allows into an index, and keeps the index as the files change.
import { stat } from "node:fs/promises";
import { join, posix } from "node:path";
import { ContextGuard, type GuardOptions } from "./guard/contextGuard.ts";
import { restoreIndex, saveIndex } from "./indexStore.ts";
import { RepositoryIndex } from "./repositoryIndex.ts";
import { Syntax } from "./syntax.ts";

/** More changed files than this are a checkout: whole folders may have come and gone. */
const MANY_FILES = 50;
/** Texts that are kept to be asked for again. */
const MOST_TEXTS = 16;
/** Files that say what may be read. */
const RULES = new Set([".gitignore", ".tidepoolignore"]);

export interface IndexOptions extends GuardOptions {
  /** Folder that keeps the index between starts; undefined keeps none. */
  storeFolder?: string;
  /** Called after each file. */
  onProgress?: (done: number, of: number) => void;
}

/** Reads every file that the guard allows. */
export async function buildRepositoryIndex(options: IndexOptions): Promise<RepositoryIndex> {
  const live = new LiveIndex(options);
  await live.refresh();
  return live.index;
}

/** An index that follows its files. Calls must not overlap; the index may be asked at any time. */
export class LiveIndex {
  readonly index = new RepositoryIndex();
  readonly #options: IndexOptions;
  readonly #syntax = new Syntax();
  /** Texts that were lately asked for; any news of the files may make them wrong. */
  readonly #texts = new Map<string, string>();
  /** Texts of editors that the guard allowed. */
  readonly #unsaved = new Map<string, string>();
  #guard: ContextGuard;

  constructor(options: IndexOptions) {
    this.#options = options;
    this.#guard = new ContextGuard(options);
  }

  /** Brings the index to the state of the disk: reads what is new or changed, forgets what is gone or may no longer be read. */
  async refresh(): Promise<void> {
    const { storeFolder, root, onProgress } = this.#options;
    // A guard holds what it read of the ignore rules for a while; here they may have just changed.
    this.#guard = new ContextGuard(this.#options);
    this.#texts.clear();
    this.#unsaved.clear();
    const paths = await this.#guard.list();
    const listed = new Set(paths);
    if (storeFolder !== undefined && this.index.files.size === 0)
      await restoreIndex(this.index, { folder: storeFolder, root, listed });
    for (const path of [...this.index.files.keys()]) if (!listed.has(path)) this.index.remove(path);
    const changed = await this.#changedOf(paths);
    for (const [i, path] of changed.entries()) {
      await this.read(path);
      onProgress?.(i + 1, changed.length);
    }
    if (storeFolder !== undefined && changed.length > 0)
      await saveIndex(this.index, storeFolder, root);
  }

  /** Takes up what happened to `paths` on disk: files or folders that were made, changed or removed. */
  async follow(paths: readonly string[]): Promise<void> {
    if (paths.length > MANY_FILES || paths.some((path) => RULES.has(posix.basename(path))))
      return this.refresh();
    for (const path of paths) if (await this.#isFolder(path)) return this.refresh();
    for (const path of paths) await this.read(path);
  }

  /** Takes the file as it now is on disk; forgets it when it is gone or must not be read. */
  async read(path: string): Promise<void> {
    const guarded = await this.#guard.read(path);
    this.#texts.clear();
    this.#unsaved.delete(path);
    if (guarded.kind === "refused") this.index.remove(path);
    else await this.#update(path, guarded.file.text, guarded.file.changedMs);
  }

  /** The file's text as its editor or the disk has it; undefined when it is gone or must not be read. */
  async textOf(path: string): Promise<string | undefined> {
    const known = this.#unsaved.get(path) ?? this.#texts.get(path);
    if (known !== undefined) return known;
    const guarded = await this.#guard.read(path);
    if (guarded.kind === "refused") return undefined;
    if (this.#texts.size >= MOST_TEXTS) this.#texts.clear();
    this.#texts.set(path, guarded.file.text);
    return guarded.file.text;
  }

  /** Takes the unsaved text of an editor, when the guard allows it. */
  async edit(path: string, text: string): Promise<void> {
    this.#unsaved.delete(path);
    if (await this.#guard.refusalOfUnsaved(path, text)) return this.index.remove(path);
    this.#unsaved.set(path, text);
    await this.#update(path, text, 0);
  }

  async #update(path: string, text: string, changedMs: number): Promise<void> {
    await this.#syntax.load([path]);
    this.index.update({ path, text, changedMs, definitions: this.#syntax.definitions(path, text) });
  }

  /** Whether `path` is a folder that may be read, or was one of those whose files are known. */
  async #isFolder(path: string): Promise<boolean> {
    const { files } = this.index;
    if (files.has(path)) return false;
    for (const known of files.keys()) if (known.startsWith(`${path}/`)) return true;
    const found = await stat(join(this.#options.root, path)).catch(() => undefined);
    return found?.isDirectory() === true && !(await this.#guard.refusalOfFolder(path));
  }

  /** Files that are not known as they are on disk now. */
  async #changedOf(paths: readonly string[]): Promise<string[]> {
    const changed: string[] = [];
    for (const path of paths) {
      const known = this.index.files.get(path)?.changedMs;
      if (known === undefined) changed.push(path);
      else {
        const now = await stat(join(this.#options.root, path)).catch(() => undefined);
        if (now?.mtimeMs !== known) changed.push(path);
      }
    }
    return changed;
  }
}
