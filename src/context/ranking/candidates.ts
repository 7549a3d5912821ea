// From evidence to definitions with a probability: how likely it is that the code at the cursor uses them next.
import type { Definition } from "../repositoryIndex.ts";
import { bestDefinition, DefinitionChoice, furtherDefinitions } from "./definitionChoice.ts";
import { describe, descriptionOf } from "./description.ts";
import { Evidence, FEATURES, type Feature } from "./features.ts";
import { Judgement } from "./judgement.ts";
import type { Scene } from "./scene.ts";
import { voteByFiles, voteByLines, voteByPrecedingNames } from "./similarity.ts";
import { type Sources, sourcesOf, voteBySources } from "./sources.ts";
import { voteByImports, voteByModule, voteByTypes } from "./structure.ts";
import { weights } from "./weights.ts";

/** Names that are looked at closely, the likeliest by their votes: several times what the largest budget holds. */
const MOST_CANDIDATES = 1200;

export interface Candidate {
  definition: Definition;
  /** How likely the name stands in what is written next, relative to the other candidates. */
  probability: number;
  /** The evidence that speaks most for it. */
  reason: Feature;
}

/** Further definitions of one name, should the likeliest not be the one that is meant. */
const MOST_FURTHER = 3;
/** Names likely enough that it matters which of their definitions is meant. */
const MOST_DOUBTED = 200;
/** A further definition brings no new name, only certainty about it. */
const FURTHER_WORTH = 0.12;

/** Candidates for names that the file does not use yet; the likeliest first, further definitions behind them. */
export function candidatesOf(scene: Scene): Candidate[] {
  const found: Candidate[] = [];
  const judgement = new Judgement(scene);
  const choice = new DefinitionChoice(scene);
  describedOf(
    scene,
    MOST_CANDIDATES,
    (definition, data, row) => {
      const { score, reason } = judgement.of(data, row);
      found.push({ definition, probability: Math.exp(score), reason });
    },
    choice,
  );
  found.sort((a, b) => b.probability - a.probability);
  const further: Candidate[] = [];
  for (const { definition: best, probability, reason } of found.slice(0, MOST_DOUBTED))
    for (const { definition, share } of furtherDefinitions(choice, best, MOST_FURTHER))
      further.push({
        definition,
        probability: probability * share * FURTHER_WORTH,
        reason,
      });
  return [...found, ...further];
}

/** Hands the definition of the `most` likeliest candidates by a rough score and their features, `FEATURES` numbers of `data` from `row`, to `take`. */
export function describedOf(
  scene: Scene,
  most: number,
  take: (definition: Definition, data: Float32Array, row: number) => void,
  choice = new DefinitionChoice(scene),
): void {
  const sources = sourcesOf(scene);
  const evidence = evidenceOf(scene, sources);
  const description = descriptionOf(scene, sources);
  const { data } = evidence;
  for (const i of screened(evidence, most)) {
    const row = i * FEATURES;
    const name = evidence.names[i] ?? 0;
    const definition = bestDefinition(choice, name);
    if (!definition) continue;
    describe(description, definition, data.subarray(row, row + FEATURES));
    take(definition, data, row);
  }
}

function evidenceOf(scene: Scene, sources: Sources): Evidence {
  const { index, near } = scene;
  const evidence = new Evidence(
    index.names.size,
    (name) => index.definitions.has(name) && !near.has(name),
  );
  voteByLines(scene, evidence);
  voteByFiles(scene, evidence);
  voteByPrecedingNames(scene, evidence);
  voteByImports(scene, evidence);
  voteByTypes(scene, evidence);
  voteByModule(scene, evidence);
  voteBySources(scene, sources, evidence);
  return evidence;
}

/** Places in `names` of the `most` names with the best rough scores, in their order. */
function screened({ names, data }: Evidence, most: number): number[] {
  const { screen } = weights;
  const scores = new Float32Array(names.length);
  for (let i = 0; i < names.length; i++) {
    let score = 0;
    for (let j = 0; j < screen.length; j++)
      score += (data[i * FEATURES + j] ?? 0) * (screen[j] ?? 0);
    scores[i] = score;
  }
  const least = most < names.length ? (scores.toSorted()[names.length - most] ?? 0) : -Infinity;
  const found: number[] = [];
  for (const [i, score] of scores.entries()) if (score >= least) found.push(i);
  return found;
}
