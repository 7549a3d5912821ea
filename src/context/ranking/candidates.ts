// From evidence to definitions with a probability: how likely it is that the code at the cursor uses them next.
import type { Definition } from "../repositoryIndex.ts";
import { bestDefinition, DefinitionChoice } from "./definitionChoice.ts";
import { describe, descriptionOf } from "./description.ts";
import { Evidence, FEATURES, type Feature } from "./features.ts";
import { Judgement } from "./judgement.ts";
import type { Scene } from "./scene.ts";
import { voteByFiles, voteByLines, voteByPrecedingNames } from "./similarity.ts";
import { voteByImports, voteByModule, voteByTypes } from "./structure.ts";

export interface Candidate {
  definition: Definition;
  /** How likely the name stands in what is written next, relative to the other candidates. */
  probability: number;
  /** The evidence that speaks most for it. */
  reason: Feature;
}

/** Candidates for names that the file does not use yet; unsorted. */
export function candidatesOf(scene: Scene): Candidate[] {
  const found: Candidate[] = [];
  const judgement = new Judgement(scene);
  describedOf(scene, (definition, data, row) => {
    const { score, reason } = judgement.of(data, row);
    found.push({ definition, probability: Math.exp(score), reason });
  });
  return found;
}

/** Hands every candidate's definition and its features, `FEATURES` numbers of `data` from `row`, to `take`. */
export function describedOf(
  scene: Scene,
  take: (definition: Definition, data: Float32Array, row: number) => void,
): void {
  const evidence = evidenceOf(scene);
  const choice = new DefinitionChoice(scene);
  const description = descriptionOf(scene);
  const { data } = evidence;
  for (const [i, name] of evidence.names.entries()) {
    const row = i * FEATURES;
    const definition = bestDefinition(choice, name);
    if (!definition) continue;
    describe(description, definition, data.subarray(row, row + FEATURES));
    take(definition, data, row);
  }
}

function evidenceOf(scene: Scene): Evidence {
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
  return evidence;
}
