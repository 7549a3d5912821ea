// Which of the definitions of a name the file at the cursor most likely means.
import { nearness } from "../importResolution.ts";
import type { Definition, IndexedFile } from "../repositoryIndex.ts";
import { TEST_PATH } from "./place.ts";
import type { Scene } from "./scene.ts";

const MOST_DEFINITIONS = 200;
/** Copies of the sources, made by a build or brought along. */
const COPIES =
  /(?:^|\/)(?:dist|build|out|lib|esm|cjs|types|_types|_cjs|_esm|vendor|third_party|generated)\/|\.d\.[cm]?ts$|\.pyi$|\.pb\.(?:go|h|cc)$|_pb2\.py$/;

/** How well definitions of a name suit a scene; what is asked of a file is worked out once. */
export class DefinitionChoice {
  readonly scene: Scene;
  readonly #isTest: boolean;
  readonly #scores = new Map<IndexedFile, number>();

  constructor(scene: Scene) {
    this.scene = scene;
    this.#isTest = TEST_PATH.test(scene.path);
  }

  /** Higher is better. */
  scoreOf(file: IndexedFile): number {
    const known = this.#scores.get(file);
    if (known !== undefined) return known;
    const { scene } = this;
    let score = nearness(file.path, scene.path) * 0.5;
    if (scene.importedFiles.has(file)) score += 6;
    if (scene.siblings.has(file)) score += 4;
    if (file.language?.id === scene.language?.id) score += 3;
    if (COPIES.test(file.path)) score -= 5;
    if (!this.#isTest && TEST_PATH.test(file.path)) score -= 3;
    this.#scores.set(file, score);
    return score;
  }
}

const kindScores: Readonly<Partial<Record<Definition["kind"], number>>> = {
  class: 2.5,
  interface: 2.5,
  enum: 2.5,
  type: 2.5,
  function: 2,
  method: 1.5,
  macro: 1,
  constant: 1,
  member: 0.5,
};

/** The definition that this file sees, else the one that lies nearest; none when only this file defines the name. */
export function bestDefinition(choice: DefinitionChoice, name: number): Definition | undefined {
  const { scene } = choice;
  const all = scene.index.definitions.get(name);
  if (!all) return undefined;
  let best: Definition | undefined;
  let bestScore = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < all.length && i < MOST_DEFINITIONS; i++) {
    const definition = all[i];
    if (!definition || definition.file.path === scene.path) continue;
    const { container, file } = definition;
    let score = choice.scoreOf(file) + (kindScores[definition.kind] ?? 0);
    // A constructor says less than its type.
    if (container === name) score -= 3;
    else if (container < 0) score += 1;
    else if (scene.near.has(container) || scene.imported.has(container)) score += 4;
    if (score > bestScore) {
      best = definition;
      bestScore = score;
    }
  }
  return best;
}
