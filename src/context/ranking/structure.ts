// Names that the language's own rules bring near: imports, the same package, members of types, types in signatures.

import { scanNames } from "../nameScan.ts";
import type { Definition, IndexedFile } from "../repositoryIndex.ts";
import { featureIndex as at, type Evidence } from "./features.ts";
import type { Scene } from "./scene.ts";

const MOST_DEFINITIONS_OF_FILE = 600;
const MOST_SIBLING_FILES = 250;
const MOST_MODULES = 12;
const TYPE_KINDS = new Set(["class", "interface", "enum", "type"]);

export function isTypeDefinition({ kind }: Definition): boolean {
  return TYPE_KINDS.has(kind);
}

/** A name of an import that the file does not use yet is what the import was written for. */
export function voteByImports(scene: Scene, evidence: Evidence): void {
  for (const name of scene.imported) {
    evidence.raise(name, at.importedName, 1);
    for (const definition of scene.index.definitions.get(name) ?? [])
      if (isTypeDefinition(definition))
        voteForMembers(scene, evidence, name, at.importedMember, 0.5);
  }
  for (const file of scene.importedFiles.keys())
    voteForFile(file, evidence, at.importedDefinition, at.importedMember);
  for (const file of [...scene.siblings].slice(0, MOST_SIBLING_FILES))
    voteForFile(file, evidence, at.siblingDefinition, at.siblingMember);
  const folder = scene.path.includes("/") ? scene.path.slice(0, scene.path.lastIndexOf("/")) : ".";
  const near = (scene.index.folders.get(folder) ?? []).filter((file) => file !== scene.self);
  const share = 1 / Math.sqrt(Math.min(near.length + 1, MOST_SIBLING_FILES));
  for (const file of near.slice(0, MOST_SIBLING_FILES))
    for (const name of file.distinct) evidence.add(name, at.sameFolder, share);
}

function voteForFile(file: IndexedFile, evidence: Evidence, top: number, member: number): void {
  for (const definition of file.definitions.slice(0, MOST_DEFINITIONS_OF_FILE))
    evidence.raise(definition.name, definition.container < 0 ? top : member, 1);
}

function voteForMembers(
  scene: Scene,
  evidence: Evidence,
  type: number,
  vote: number,
  weight: number,
): void {
  for (const member of (scene.index.members.get(type) ?? []).slice(0, MOST_DEFINITIONS_OF_FILE))
    evidence.raise(member.name, vote, weight);
}

/** Members of the types that stand near the cursor, and names in the signatures of what stands there. */
export function voteByTypes(scene: Scene, evidence: Evidence): void {
  const { index, near, imported } = scene;
  const types = new Map<number, number>();
  const mention = (type: number, weight: number) => {
    if ((types.get(type) ?? 0) < weight && index.members.has(type)) types.set(type, weight);
  };
  for (const [name, weight] of near) {
    if (weight <= 0.12) continue;
    const definitions = index.definitions.get(name);
    if (!definitions || definitions.length > 12) continue;
    mention(name, weight);
    for (const definition of definitions.slice(0, 4)) {
      for (const inside of scanNames(definition.text, index.names).ids) {
        if (inside === name) continue;
        evidence.raise(inside, at.inNearSignature, weight);
        if (!imported.has(inside)) mention(inside, weight * 0.5);
      }
    }
  }
  for (const [type, weight] of types)
    voteForMembers(scene, evidence, type, at.nearTypeMember, weight);
  for (const type of receiverTypes(scene))
    voteForMembers(scene, evidence, type, at.receiverMember, 1);
  voteByBases(scene, evidence);
}

/** Members that the types of this file inherit, two steps up. */
function voteByBases(scene: Scene, evidence: Evidence): void {
  const { index, bases } = scene;
  for (const base of bases) {
    voteForMembers(scene, evidence, base, at.baseMember, 1);
    for (const definition of index.definitions.get(base)?.slice(0, 3) ?? []) {
      if (!isTypeDefinition(definition)) continue;
      for (const inside of scanNames(definition.text, index.names).ids)
        if (inside !== base && !bases.has(inside) && index.members.has(inside))
          voteForMembers(scene, evidence, inside, at.baseMember, 0.6);
    }
  }
}

/** Types that the name before the dot may have: those that stand beside it wherever this file declares it. */
function receiverTypes({ index, scanned, before, afterDot, language }: Scene): Set<number> {
  const types = new Set<number>();
  const [receiver] = before;
  if (!afterDot || receiver === undefined) return types;
  if (index.members.has(receiver)) types.add(receiver);
  for (const definition of index.definitions.get(receiver)?.slice(0, 6) ?? [])
    if (definition.file.language?.id === language?.id)
      for (const inside of scanNames(definition.text, index.names).ids)
        if (index.members.has(inside)) types.add(inside);
  const { ids, starts } = scanned;
  let line = 0;
  for (let i = ids.indexOf(receiver); i >= 0; i = ids.indexOf(receiver, i + 1)) {
    while ((starts[line + 1] ?? 0) <= i) line++;
    for (
      let j = Math.max(starts[line] ?? 0, i - 2);
      j < Math.min(starts[line + 1] ?? 0, i + 4);
      j++
    ) {
      const name = ids[j] ?? 0;
      if (index.members.has(name)) types.add(name);
    }
  }
  return types;
}

/** Files whose name is the word before the dot: a Go package, a Python or Rust module, a namespace import. */
export function voteByModule(scene: Scene, evidence: Evidence): void {
  const [receiver] = scene.before;
  if (!scene.afterDot || receiver === undefined) return;
  const word = scene.index.names.textOf(receiver);
  for (const [file, statement] of scene.importedFiles)
    if (statement.names.includes(word))
      voteForFile(file, evidence, at.receiverModule, at.importedMember);
  for (const file of (scene.index.stems.get(word) ?? []).slice(0, MOST_MODULES))
    if (file !== scene.self && file.language?.id === scene.language?.id)
      for (const { name } of file.definitions.slice(0, MOST_DEFINITIONS_OF_FILE))
        evidence.raise(name, at.receiverModule, 0.5);
}
