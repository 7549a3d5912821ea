// Features of a candidate that its definition and its name tell, beside the evidence that others voted for.
import { nearness } from "../importResolution.ts";
import { TEST_PATH } from "../pathKinds.ts";
import { type Definition, type IndexedFile, stemOf } from "../repositoryIndex.ts";
import { featureIndex as at } from "./features.ts";
import { filesWith, type Scene } from "./scene.ts";
import { rarity } from "./similarity.ts";
import type { Sources } from "./sources.ts";
import { isTypeDefinition } from "./structure.ts";

/** What is worked out once for all candidates of a scene. */
export interface Description {
  scene: Scene;
  /** Words of the names near the cursor, of its line and of the file's path, by weight. */
  nearWords: Map<number, number>;
  lineWords: Map<number, number>;
  pathWords: Map<number, number>;
  sources: Sources;
  facts: Map<IndexedFile, FileFacts>;
}

interface FileFacts {
  nearness: number;
  isTest: number;
  sameLanguage: number;
  twin: number;
}

export function descriptionOf(scene: Scene, sources: Sources): Description {
  const { near, index, before } = scene;
  const nearWords = new Map<number, number>();
  for (const [name, weight] of near) if (weight >= 0.2) addWords(scene, nearWords, name, weight);
  const lineWords = new Map<number, number>();
  for (const [i, name] of before.entries()) addWords(scene, lineWords, name, 1 / (1 + i / 3));
  const pathWords = new Map<number, number>();
  for (const part of scene.path.split(/[/.]/).slice(-3))
    for (const word of part.split(/[-_]/)) addWords(scene, pathWords, index.names.add(word), 1);
  return { scene, nearWords, lineWords, pathWords, sources, facts: new Map() };
}

function addWords(scene: Scene, words: Map<number, number>, name: number, weight: number): void {
  for (const part of scene.index.names.partsOf(name))
    if ((words.get(part) ?? 0) < weight) words.set(part, weight);
}

function factsOf({ facts, scene }: Description, file: IndexedFile): FileFacts {
  const known = facts.get(file);
  if (known) return known;
  const found: FileFacts = {
    nearness: nearness(file.path, scene.path) / scene.path.split("/").length,
    isTest: file.isTest && !TEST_PATH.test(scene.path) ? 1 : 0,
    sameLanguage: file.language?.id === scene.language?.id ? 1 : 0,
    twin: isTwin(file.path, scene.path) ? 1 : 0,
  };
  facts.set(file, found);
  return found;
}

const TEST_AFFIX = /^test_|[._-](?:test|tests|spec|unittest|inl|impl)$|(?:Tests?|IT|Impl)$/;
const COMMON_STEMS = new Set(["mod", "index", "lib", "main", "__init__", "types", "util", "utils"]);

/** A file and its test, a source and its header. */
function isTwin(a: string, b: string): boolean {
  const stem = stemOf(a).replace(TEST_AFFIX, "");
  return stem === stemOf(b).replace(TEST_AFFIX, "") && !COMMON_STEMS.has(stem);
}

/** Fills in the features of `definition` that no evidence gave. */
export function describe(about: Description, definition: Definition, row: Float32Array): void {
  const { scene } = about;
  const { index } = scene;
  const { name, file, kind, container } = definition;
  const text = index.names.textOf(name);
  const parts = index.names.partsOf(name);
  const isTop = container < 0;
  const isType = isTypeDefinition(definition);
  const facts = factsOf(about, file);
  const used = filesWith(scene, name);
  row[at.usedInFiles] = Math.log(Math.max(used, 1)) / 3;
  row[at.rarity] = rarity(scene, name) / 6;
  row[at.sameFolder] = Math.log1p(row[at.sameFolder] ?? 0);
  row[at.isDefinedOnly] = used < 2 ? 1 : 0;
  row[at.manyDefinitions] = Math.log(index.definitions.get(name)?.length ?? 1) / 3;
  row[at.sharedWords] = shareOf(parts, about.nearWords);
  row[at.lineWords] = shareOf(parts, about.lineWords);
  row[at.pathWords] = shareOf(parts, about.pathWords);
  row[at.fileOften] = Math.log1p(about.sources.files.get(file) ?? 0) / 3;
  row[at.typeOften] = isTop ? 0 : Math.log1p(about.sources.types.get(container) ?? 0) / 3;
  row[at.twinFile] = facts.twin;
  row[at.nearness] = facts.nearness;
  row[at.isTest] = facts.isTest;
  row[at.sameLanguage] = facts.sameLanguage;
  row[at.typedPrefix] = scene.typed ? (text.startsWith(scene.typed) ? 1 : -1) : 0;
  row[at.isType] = isType ? 1 : 0;
  row[at.isFunction] = kind === "function" ? 1 : 0;
  row[at.isMethod] = kind === "method" ? 1 : 0;
  row[at.isField] = kind === "field" ? 1 : 0;
  row[at.isConstant] = kind === "constant" || kind === "variable" || kind === "macro" ? 1 : 0;
  row[at.isMember] = isTop ? 0 : 1;
  row[at.isCapital] = /^[A-Z]/.test(text) ? 1 : 0;
  row[at.isUpper] = /^[A-Z\d_]+$/.test(text) ? 1 : 0;
  row[at.isPrivate] = /^_|\bprivate\b/.test(definition.text) || text.startsWith("_") ? 1 : 0;
  row[at.nameLength] = Math.log(Math.max(1, text.length)) / 3;
  row[at.dotAndMember] = scene.afterDot && !isTop ? 1 : 0;
  row[at.dotAndTop] = scene.afterDot && isTop ? 1 : 0;
  row[at.newAndType] = scene.place === "newWord" && isType ? 1 : 0;
  row[at.typeAndType] = scene.place === "typeWord" && isType ? 1 : 0;
}

/** Sum of the weights of a name's words, less for names of many. */
function shareOf(parts: Uint32Array, words: ReadonlyMap<number, number>): number {
  let sum = 0;
  for (const part of parts) sum += words.get(part) ?? 0;
  return parts.length === 0 ? 0 : sum / Math.sqrt(parts.length);
}
