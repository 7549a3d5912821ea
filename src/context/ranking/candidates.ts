// From evidence to definitions with a probability: how likely it is that the code at the cursor uses them next.
import { nearness } from "../importResolution.ts";
import type { Definition } from "../repositoryIndex.ts";
import { Evidence, FEATURES, type Feature, featureIndex, featureNames } from "./features.ts";
import { filesWith, type Scene } from "./scene.ts";
import { voteByFiles, voteByLines, voteByPrecedingNames } from "./similarity.ts";
import { isTypeDefinition, voteByImports, voteByModule, voteByTypes } from "./structure.ts";
import { weights } from "./weights.ts";

export interface Candidate {
  definition: Definition;
  /** That the name stands in what is written next, 0 to 1. */
  probability: number;
  /** The evidence that speaks most for it. */
  reason: Feature;
  /** (FEATURES) */
  features: Float32Array;
}

/** Candidates for names that the file does not use yet, and for those near the cursor that it uses; unsorted. */
export function candidatesOf(scene: Scene): Candidate[] {
  const evidence = new Evidence();
  voteByLines(scene, evidence);
  voteByFiles(scene, evidence);
  voteByPrecedingNames(scene, evidence);
  voteByImports(scene, evidence);
  voteByTypes(scene, evidence);
  voteByModule(scene, evidence);
  const parts = nearParts(scene);
  const found: Candidate[] = [];
  for (const [name, row] of evidence.entries()) {
    if (scene.near.has(name)) continue;
    const definition = bestDefinition(scene, name);
    if (!definition) continue;
    describe(scene, definition, row, parts);
    found.push({ definition, features: row, ...judge(row) });
  }
  return found;
}

/** Words of the names near the cursor, by the weight of the nearest. */
function nearParts({ near, index }: Scene): Map<number, number> {
  const parts = new Map<number, number>();
  for (const [name, weight] of near) {
    if (weight < 0.2) continue;
    for (const part of index.names.partsOf(name))
      if ((parts.get(part) ?? 0) < weight) parts.set(part, weight);
  }
  return parts;
}

/** The definition that this file sees, else the one that lies nearest. */
export function bestDefinition(scene: Scene, name: number): Definition | undefined {
  let best: Definition | undefined;
  let bestScore = -1;
  const all = scene.index.definitions.get(name);
  if (!all) return undefined;
  for (const definition of all.length > 200 ? all.slice(0, 200) : all) {
    const { file } = definition;
    if (file.path === scene.path) continue;
    let score = nearness(file.path, scene.path) * 0.5;
    if (scene.importedFiles.has(file)) score += 6;
    if (scene.siblings.has(file)) score += 4;
    if (file.language?.id === scene.language?.id) score += 3;
    if (definition.container < 0) score += 1;
    else if (scene.near.has(definition.container) || scene.imported.has(definition.container))
      score += 4;
    if (score > bestScore) {
      best = definition;
      bestScore = score;
    }
  }
  return best;
}

const TEST_PATH = /(?:^|[/_.-])(?:tests?|specs?|mocks?|fixtures?|testdata)(?:[/_.-]|$)/i;

function describe(
  scene: Scene,
  definition: Definition,
  row: Float32Array,
  near: ReadonlyMap<number, number>,
): void {
  const { index } = scene;
  const { name, file } = definition;
  const set = (feature: Feature, value: number) => {
    row[featureIndex[feature]] = value;
  };
  const get = (feature: Feature) => row[featureIndex[feature]] ?? 0;
  const text = index.names.textOf(name);
  const isTop = definition.container < 0;
  set("bias", 1);
  const files = filesWith(scene, name);
  set("usedInFiles", Math.log(Math.max(files, 1)));
  set("isDefinedOnly", files < 2 ? 1 : 0);
  set("sharedWords", sharedWords(index.names.partsOf(name), near));
  set("nearness", nearness(file.path, scene.path) / (scene.path.split("/").length || 1));
  set("isType", isTypeDefinition(definition) ? 1 : 0);
  set("isMember", isTop ? 0 : 1);
  set("dotAndMember", scene.afterDot && !isTop ? 1 : 0);
  set("dotAndTop", scene.afterDot && isTop ? 1 : 0);
  set("typedPrefix", scene.typed ? (text.startsWith(scene.typed) ? 1 : -1) : 0);
  set("manyDefinitions", Math.log(index.definitions.get(name)?.length ?? 1));
  set("isTest", TEST_PATH.test(file.path) && !TEST_PATH.test(scene.path) ? 1 : 0);
  set("sameLanguage", file.language?.id === scene.language?.id ? 1 : 0);
  set("isCapital", /^[A-Z]/.test(text) ? 1 : 0);
  const visible = Math.max(
    get("importedDefinition"),
    get("siblingDefinition"),
    get("importedMember") * 0.5,
  );
  set("similarAndVisible", visible * get("similarLines"));
  set("wordsAndVisible", visible * get("sharedWords"));
  const last = scene.before[0];
  const afterNew = last !== undefined && index.names.textOf(last) === "new";
  set("newAndType", afterNew && get("isType") ? 1 : 0);
}

/** Share of the name's words that stand near the cursor. */
function sharedWords(parts: Uint32Array, near: ReadonlyMap<number, number>): number {
  let sum = 0;
  for (const part of parts) sum += near.get(part) ?? 0;
  return parts.length === 0 ? 0 : sum / Math.sqrt(parts.length);
}

function judge(row: Float32Array): { probability: number; reason: Feature } {
  let sum = 0;
  let most = 0;
  let reason: Feature = "usedInFiles";
  for (let i = 0; i < FEATURES; i++) {
    const part = (weights[i] ?? 0) * (row[i] ?? 0);
    sum += part;
    if (part > most && i > 0) {
      most = part;
      reason = featureNames[i] ?? reason;
    }
  }
  return { probability: 1 / (1 + Math.exp(-sum)), reason };
}
