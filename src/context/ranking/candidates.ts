// From evidence to definitions with a probability: how likely it is that the code at the cursor uses them next.
import type { Definition } from "../repositoryIndex.ts";
import { bestDefinition, DefinitionChoice, furtherDefinitions } from "./definitionChoice.ts";
import { describe, descriptionOf } from "./description.ts";
import { Evidence, FEATURES, type Feature, VOTES } from "./features.ts";
import { Judgement } from "./judgement.ts";
import type { Scene } from "./scene.ts";
import { scratchOf } from "./scratch.ts";
import { voteByFiles, voteByLines, voteByPrecedingNames } from "./similarity.ts";
import { type Sources, sourcesOf, voteBySources } from "./sources.ts";
import { voteByImports, voteByModule, voteByTypes } from "./structure.ts";
import { weights } from "./weights.ts";

/** Names that are looked at closely, the likeliest by their votes: several times what the largest budget holds. */
const MOST_CANDIDATES = 800;

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

/** Candidates for names that the file does not use yet, in no order; further definitions of the likeliest behind them. */
export function candidatesOf(scene: Scene): Candidate[] {
  const found: Candidate[] = [];
  const judgement = new Judgement(scene);
  const choice = new DefinitionChoice(scene);
  describedOf(
    scene,
    MOST_CANDIDATES,
    (definition, features) => {
      const { score, reason } = judgement.of(features);
      found.push({ definition, probability: Math.exp(score), reason });
    },
    choice,
  );
  const further: Candidate[] = [];
  for (const { definition: best, probability, reason } of likeliest(found, MOST_DOUBTED))
    for (const { definition, share } of furtherDefinitions(choice, best, MOST_FURTHER))
      further.push({
        definition,
        probability: probability * share * FURTHER_WORTH,
        reason,
      });
  return [...found, ...further];
}

/** The `most` of highest probability, in their order: sorting takes longer than finding out how high that is. */
function likeliest(candidates: readonly Candidate[], most: number): readonly Candidate[] {
  if (candidates.length <= most) return candidates;
  const least = largest(
    Float64Array.from(candidates, ({ probability }) => probability),
    most,
  );
  return candidates.filter(({ probability }) => probability >= least);
}

/** Hands the definition of the `most` likeliest candidates by a rough score and their (FEATURES), which the next overwrites, to `take`. */
export function describedOf(
  scene: Scene,
  most: number,
  take: (definition: Definition, features: Float32Array) => void,
  choice = new DefinitionChoice(scene),
): void {
  const sources = sourcesOf(scene);
  const evidence = evidenceOf(scene, sources);
  const description = descriptionOf(scene, sources);
  const { data } = evidence;
  const features = new Float32Array(FEATURES);
  for (const i of screened(evidence, most)) {
    const name = evidence.names[i] ?? 0;
    const definition = bestDefinition(choice, name);
    if (!definition) continue;
    for (let j = 0; j < VOTES; j++) features[j] = data[i * VOTES + j] ?? 0;
    describe(description, definition, features);
    take(definition, features);
  }
}

function evidenceOf(scene: Scene, sources: Sources): Evidence {
  const { index, near } = scene;
  const evidence = new Evidence(scratchOf(index), index.names.size, (name) =>
    index.definitions.has(name),
  );
  for (const name of near.keys()) evidence.refuse(name);
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
    for (let j = 0; j < VOTES; j++) score += (data[i * VOTES + j] ?? 0) * (screen[j] ?? 0);
    scores[i] = score;
  }
  const least = most < names.length ? largest(scores.slice(), most) : -Infinity;
  const found: number[] = [];
  for (let i = 0; i < scores.length; i++) if ((scores[i] ?? 0) >= least) found.push(i);
  return found;
}

/** The `rank`-th largest of `values`, from 1, which change their places (quickselect): sorting all takes ten times as long. */
function largest(values: Float32Array | Float64Array, rank: number): number {
  let low = 0;
  let high = values.length - 1;
  const wanted = rank - 1;
  while (low < high) {
    const pivot = values[(low + high) >>> 1] ?? 0;
    let i = low;
    let j = high;
    while (i <= j) {
      while ((values[i] ?? 0) > pivot) i++;
      while ((values[j] ?? 0) < pivot) j--;
      if (i > j) break;
      const value = values[i] ?? 0;
      values[i++] = values[j] ?? 0;
      values[j--] = value;
    }
    if (wanted <= j) high = j;
    else if (wanted >= i) low = i;
    else break;
  }
  return values[wanted] ?? 0;
}
