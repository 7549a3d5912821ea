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
  words: Map<number, WordWeights>;
  sources: Sources;
  facts: Map<IndexedFile, FileFacts>;
}

/** What a word counts among the names near the cursor, on its line and in the file's path. */
interface WordWeights {
  near: number;
  line: number;
  path: number;
}

interface FileFacts {
  nearness: number;
  isTest: number;
  sameLanguage: number;
  twin: number;
}

export function descriptionOf(scene: Scene, sources: Sources): Description {
  const { near, index, before } = scene;
  const words = new Map<number, WordWeights>();
  for (const [name, weight] of near)
    if (weight >= 0.2) addWords(scene, words, name, "near", weight);
  for (const [i, name] of before.entries()) addWords(scene, words, name, "line", 1 / (1 + i / 3));
  for (const part of scene.path.split(/[/.]/).slice(-3))
    for (const word of part.split(/[-_]/)) addWords(scene, words, index.names.add(word), "path", 1);
  return { scene, words, sources, facts: new Map() };
}

function addWords(
  { index }: Scene,
  words: Map<number, WordWeights>,
  name: number,
  among: keyof WordWeights,
  weight: number,
): void {
  for (const part of index.names.partsOf(name)) {
    const known = words.get(part) ?? { near: 0, line: 0, path: 0 };
    words.set(part, known);
    if (known[among] < weight) known[among] = weight;
  }
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
  const isTop = container < 0;
  const isType = isTypeDefinition(definition);
  const facts = factsOf(about, file);
  const used = filesWith(scene, name);
  row[at.usedInFiles] = Math.log(Math.max(used, 1)) / 3;
  row[at.rarity] = rarity(scene, name) / 6;
  row[at.sameFolder] = Math.log1p(row[at.sameFolder] ?? 0);
  row[at.isDefinedOnly] = used < 2 ? 1 : 0;
  row[at.manyDefinitions] = Math.log(index.definitions.get(name)?.length ?? 1) / 3;
  describeWords(about, name, row);
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
  row[at.isPrivate] = isPrivate(definition.text, text) ? 1 : 0;
  row[at.nameLength] = Math.log(Math.max(1, text.length)) / 3;
  row[at.dotAndMember] = scene.afterDot && !isTop ? 1 : 0;
  row[at.dotAndTop] = scene.afterDot && isTop ? 1 : 0;
  row[at.newAndType] = scene.place === "newWord" && isType ? 1 : 0;
  row[at.typeAndType] = scene.place === "typeWord" && isType ? 1 : 0;
}

function isPrivate(line: string, name: string): boolean {
  if (name.startsWith("_") || line.startsWith("_")) return true;
  // Looking for the word takes less time than the pattern, and few lines have it.
  return line.includes("private") && /\bprivate\b/.test(line);
}

/** Sums of the weights of a name's words, less for names of many. */
function describeWords({ scene, words }: Description, name: number, row: Float32Array): void {
  const parts = scene.index.names.partsOf(name);
  const root = Math.sqrt(Math.max(1, parts.length));
  let near = 0;
  let line = 0;
  let path = 0;
  for (const part of parts) {
    const weights = words.get(part);
    if (!weights) continue;
    near += weights.near;
    line += weights.line;
    path += weights.path;
  }
  row[at.sharedWords] = near / root;
  row[at.lineWords] = line / root;
  row[at.pathWords] = path / root;
}
