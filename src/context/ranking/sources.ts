// Where the names that this file already uses come from: what else is defined there is likely used too.
import type { Definition, IndexedFile } from "../repositoryIndex.ts";
import { type Evidence, featureIndex } from "./features.ts";
import type { Scene } from "./scene.ts";
import { rarity } from "./similarity.ts";

/** How much of this file's names comes from a file, and from a type. */
export interface Sources {
  files: Map<IndexedFile, number>;
  types: Map<number, number>;
}

/** Names with more definitions than this tell nothing about where this file's names come from. */
const MOST_DEFINITIONS = 8;
const MOST_FILES = 16;
const MOST_TYPES = 24;
const MOST_OF_EACH = 400;

/** The sources of the names of this file, those of its imports among them. */
export function sourcesOf(scene: Scene): Sources {
  const files = new Map<IndexedFile, number>();
  const types = new Map<number, number>();
  for (const name of [...scene.near.keys(), ...scene.imported]) {
    const all = scene.index.definitions.get(name);
    if (!all || all.length > 2 * MOST_DEFINITIONS) continue;
    // What was saved of this file may be older than its text.
    const definitions = all.filter(({ file }) => file !== scene.self);
    if (definitions.length > MOST_DEFINITIONS) continue;
    const share = rarity(scene, name) / definitions.length;
    for (const { file, container } of definitions) {
      files.set(file, (files.get(file) ?? 0) + share);
      if (container >= 0) types.set(container, (types.get(container) ?? 0) + share);
    }
  }
  return { files, types };
}

/** What else the best sources define. */
export function voteBySources(
  { index }: Scene,
  { files, types }: Sources,
  evidence: Evidence,
): void {
  for (const [file, amount] of most(files, MOST_FILES))
    raiseAll(file.definitions, featureIndex.fileOften, amount, evidence);
  for (const [type, amount] of most(types, MOST_TYPES))
    raiseAll(index.members.get(type) ?? [], featureIndex.typeOften, amount, evidence);
}

function raiseAll(
  definitions: readonly Definition[],
  vote: number,
  amount: number,
  evidence: Evidence,
): void {
  const value = Math.log1p(amount) / 3;
  for (const { name } of definitions.slice(0, MOST_OF_EACH)) evidence.raise(name, vote, value);
}

function most<K>(amounts: ReadonlyMap<K, number>, count: number): [K, number][] {
  return [...amounts].sort((a, b) => b[1] - a[1]).slice(0, count);
}
