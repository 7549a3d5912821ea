// Lists that stay in the order of their files' paths: an index says the same whatever was edited in which order, and
// an entry among thousands is found without looking at all of them.

/** A file, or something that stands in one. */
export type OfFile = { path: string } | { file: { path: string } };

/** Entries of one file keep the order in which they were put in. */
export function putIn<T extends OfFile>(list: T[], value: T): void {
  const last = list.at(-1);
  if (last === undefined || pathOf(last) <= pathOf(value)) list.push(value);
  else list.splice(firstBehind(list, pathOf(value)), 0, value);
}

/** Nothing happens when it is not in the list. */
export function takeOut<T extends OfFile>(list: T[], value: T): void {
  for (let i = firstBehind(list, pathOf(value)) - 1; i >= 0; i--) {
    const found = list[i];
    if (found === undefined || pathOf(found) !== pathOf(value)) return;
    if (found === value) return void list.splice(i, 1);
  }
}

/** Lists by a text; there is none that is empty. */
export class FileLists<T extends OfFile> {
  readonly #lists = new Map<string, T[]>();

  get(key: string): readonly T[] | undefined {
    return this.#lists.get(key);
  }

  keys(): IterableIterator<string> {
    return this.#lists.keys();
  }

  put(key: string, value: T): void {
    const list = this.#lists.get(key);
    if (list) putIn(list, value);
    else this.#lists.set(key, [value]);
  }

  take(key: string, value: T): void {
    const list = this.#lists.get(key);
    if (!list) return;
    takeOut(list, value);
    if (list.length === 0) this.#lists.delete(key);
  }
}

/** Lists by the number of a name; there is none that is empty. A cursor asks for thousands, and a map takes several times as long as an array. */
export class NameLists<T extends OfFile> {
  readonly #lists: (T[] | undefined)[] = [];

  get(name: number): readonly T[] | undefined {
    return this.#lists[name];
  }

  has(name: number): boolean {
    return this.#lists[name] !== undefined;
  }

  put(name: number, value: T): void {
    // Without holes, or it would become a map after all.
    while (this.#lists.length <= name) this.#lists.push(undefined);
    const list = this.#lists[name];
    if (list) putIn(list, value);
    else this.#lists[name] = [value];
  }

  take(name: number, value: T): void {
    const list = this.#lists[name];
    if (!list) return;
    takeOut(list, value);
    if (list.length === 0) this.#lists[name] = undefined;
  }
}

function pathOf(value: OfFile): string {
  return "file" in value ? value.file.path : value.path;
}

/** Place of the first entry whose path comes after `path`. */
function firstBehind(list: readonly OfFile[], path: string): number {
  let low = 0;
  let high = list.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const value = list[middle];
    if (value !== undefined && pathOf(value) <= path) low = middle + 1;
    else high = middle;
  }
  return low;
}
