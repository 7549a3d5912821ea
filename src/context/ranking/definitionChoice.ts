// Which of the definitions of a name the file at the cursor most likely means.
import { nearness } from "../importResolution.ts";
import { TEST_PATH } from "../pathKinds.ts";
import type { Definition, IndexedFile } from "../repositoryIndex.ts";
import type { Scene } from "./scene.ts";

/** Names with more definitions are words of the language. */
const MOST_DEFINITIONS = 1000;
/** Of this many, those in copies are left out where there are others. */
const MANY_DEFINITIONS = 40;

/** How well definitions of a name suit a scene; what is asked of a file is worked out once. */
export class DefinitionChoice {
  readonly scene: Scene;
  readonly #isTest: boolean;
  readonly #written = new Map<number, Definition[]>();
  /** By slot; NaN where it was not asked for yet. */
  readonly #scores: Float64Array;

  constructor(scene: Scene) {
    this.scene = scene;
    this.#isTest = TEST_PATH.test(scene.path);
    this.#scores = new Float64Array(scene.index.slots).fill(Number.NaN);
  }

  /** The definitions of a name that are looked at. */
  definitionsOf(name: number): readonly Definition[] {
    const all = this.scene.index.definitions.get(name) ?? [];
    if (all.length < MANY_DEFINITIONS) return all;
    const known = this.#written.get(name);
    if (known) return known;
    const written = all.filter(({ file }) => !file.isCopy);
    const found = (written.length > 0 ? written : all).slice(0, MOST_DEFINITIONS);
    this.#written.set(name, found);
    return found;
  }

  /** Higher is better. */
  scoreOf(file: IndexedFile): number {
    const known = this.#scores[file.slot] ?? Number.NaN;
    if (!Number.isNaN(known)) return known;
    const { scene } = this;
    let score = nearness(file.path, scene.path) * 0.5;
    if (scene.importedFiles.has(file)) score += 6;
    if (scene.siblings.has(file)) score += 4;
    if (file.language?.id === scene.language?.id) score += 3;
    if (file.isCopy) score -= 5;
    if (!this.#isTest && file.isTest) score -= 3;
    this.#scores[file.slot] = score;
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
/** The best kind, in a type that the file names. */
const MOST_BEYOND_FILE = 6.5;
/** A line that is cut short, or that opens something else before the name, says little about it. */
const CROWDED = 2;

/** The definition that this file sees, else the one that lies nearest; none when only this file defines the name. */
export function bestDefinition(choice: DefinitionChoice, name: number): Definition | undefined {
  const { index, self } = choice.scene;
  const all = choice.definitionsOf(name);
  const text = index.names.textOf(name);
  let best: Definition | undefined;
  let bestScore = Number.NEGATIVE_INFINITY;
  for (const definition of all) {
    if (definition.file === self) continue;
    const ofFile = choice.scoreOf(definition.file);
    // Most files lie too far away for anything else to matter.
    if (ofFile + MOST_BEYOND_FILE <= bestScore) continue;
    let score = ofFile + scoreInFile(choice, definition);
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
  const { index } = choice.scene;
  const all = choice.definitionsOf(best.name);
  if (all.length < 2) return [];
  const text = index.names.textOf(best.name);
  const texts = new Set([best.text.trim()]);
  const further: Scored[] = [];
  let first = Number.NEGATIVE_INFINITY;
  for (const { definition, score } of closeDefinitions(choice, all)) {
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

/** The best of `all` by where they stand and what they are, the best first. */
function closeDefinitions(choice: DefinitionChoice, all: readonly Definition[]): Scored[] {
  const close: Scored[] = [];
  let least = Number.NEGATIVE_INFINITY;
  for (const definition of all) {
    if (definition.file === choice.scene.self) continue;
    const ofFile = choice.scoreOf(definition.file);
    if (ofFile + MOST_BEYOND_FILE <= least) continue;
    const score = ofFile + scoreInFile(choice, definition);
    if (score <= least) continue;
    let at = close.length;
    while (at > 0 && (close[at - 1]?.score ?? 0) < score) at--;
    close.splice(at, 0, { definition, score });
    if (close.length > MOST_CLOSE) close.pop();
    if (close.length === MOST_CLOSE) least = close.at(-1)?.score ?? least;
  }
  return close;
}

/** How well a definition suits the scene beyond its file; at most MOST_BEYOND_FILE. */
function scoreInFile(choice: DefinitionChoice, { container, kind, name }: Definition): number {
  const { near, imported } = choice.scene;
  const score = kindScores[kind] ?? 0;
  // A constructor says less than its type.
  if (container === name) return score - 3;
  if (container < 0) return score + 1;
  return near.has(container) || imported.has(container) ? score + 4 : score;
}

function isCrowded({ text }: Definition, name: string): boolean {
  if (text.length > 200) return true;
  return /[({][^)}]*$/.test(text.slice(0, Math.max(0, text.indexOf(name))));
}
