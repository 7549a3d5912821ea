// Which of the definitions of a name the file at the cursor most likely means.
import { nearness } from "../importResolution.ts";
import type { Definition, IndexedFile } from "../repositoryIndex.ts";
import { TEST_PATH } from "./place.ts";
import type { Scene } from "./scene.ts";

const MOST_DEFINITIONS = 200;
/** Copies of the sources, made by a build or brought along. */
const COPIES =
  /(?:^|\/)(?:dist|build|out|lib|esm|cjs|types|_types|_cjs|_esm|vendor|third_party|generated)\/|[-_.](?:generated|designer)\.|\.min\.|\.d\.[cm]?ts$|\.pyi$|\.pb\.(?:go|h|cc)$|_pb2\.py$/i;

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

/** A definition, and how likely the file means it when it means the name at all. */
export interface ChosenDefinition {
  definition: Definition;
  share: number;
}

interface Scored {
  definition: Definition;
  score: number;
}

/** Definitions that are looked at closely, of all those of a name. */
const MOST_CLOSE = 6;
/** So much more of a score makes a definition e times as likely. */
const SCORE_UNIT = 2;
/** A line that is cut short, or that opens something else before the name, says little about it. */
const CROWDED = 2;

/** The definition that this file sees, else the one that lies nearest; none when only this file defines the name. */
export function bestDefinition(choice: DefinitionChoice, name: number): Definition | undefined {
  const { index, self } = choice.scene;
  const all = index.definitions.get(name);
  if (!all) return undefined;
  const text = index.names.textOf(name);
  let best: Definition | undefined;
  let bestScore = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < all.length && i < MOST_DEFINITIONS; i++) {
    const definition = all[i];
    if (!definition || definition.file === self) continue;
    let score = scoreOf(choice, definition);
    if (score <= bestScore) continue;
    if (all.length > 1 && isCrowded(definition, text)) score -= CROWDED;
    if (score <= bestScore) continue;
    best = definition;
    bestScore = score;
  }
  return best;
}

/** Up to `most` definitions of the name that read differently from `best` and from one another, the likeliest first. */
export function furtherDefinitions(
  choice: DefinitionChoice,
  best: Definition,
  most: number,
): ChosenDefinition[] {
  const { index, self } = choice.scene;
  const all = index.definitions.get(best.name) ?? [];
  if (all.length < 2) return [];
  const text = index.names.textOf(best.name);
  const scored: Scored[] = [];
  for (const definition of all.slice(0, MOST_DEFINITIONS))
    if (definition.file !== self) scored.push({ definition, score: scoreOf(choice, definition) });
  scored.sort((a, b) => b.score - a.score);
  const texts = new Set([best.text.trim()]);
  const further: Scored[] = [];
  let first = Number.NEGATIVE_INFINITY;
  for (const { definition, score } of scored.slice(0, MOST_CLOSE)) {
    const own = isCrowded(definition, text) ? score - CROWDED : score;
    first = Math.max(first, own);
    const line = definition.text.trim();
    if (!texts.has(line)) further.push({ definition, score: own });
    texts.add(line);
  }
  const likelihoods = further.map(({ score }) => Math.exp((score - first) / SCORE_UNIT));
  const total = likelihoods.reduce((sum, likelihood) => sum + likelihood, 1);
  return further
    .map(({ definition }, i) => ({ definition, share: (likelihoods[i] ?? 0) / total }))
    .sort((a, b) => b.share - a.share)
    .slice(0, most);
}

/** How well a definition suits the scene, by where it stands and what it is; higher is better. */
function scoreOf(choice: DefinitionChoice, { container, file, kind, name }: Definition): number {
  const { near, imported } = choice.scene;
  const score = choice.scoreOf(file) + (kindScores[kind] ?? 0);
  // A constructor says less than its type.
  if (container === name) return score - 3;
  if (container < 0) return score + 1;
  return near.has(container) || imported.has(container) ? score + 4 : score;
}

function isCrowded({ text }: Definition, name: string): boolean {
  if (text.length > 200) return true;
  return /[({][^)}]*$/.test(text.slice(0, Math.max(0, text.indexOf(name))));
}
