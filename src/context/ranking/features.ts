// What speaks for a name: one number for each kind of evidence. The order is that of the fitted weights.
import type { Scratch } from "./scratch.ts";

export const featureNames = [
  "importedName",
  "importedDefinition",
  "importedMember",
  "siblingDefinition",
  "siblingMember",
  "similarLines",
  "nextName",
  "nextAfterTwo",
  "sameLine",
  "receiverMember",
  "receiverModule",
  "nearTypeMember",
  "baseMember",
  "inNearSignature",
  "similarFiles",
  "sameFolder",
  "fileOften",
  "typeOften",
  "twinFile",
  "usedInFiles",
  "rarity",
  "isDefinedOnly",
  "manyDefinitions",
  "sharedWords",
  "lineWords",
  "pathWords",
  "nearness",
  "isTest",
  "sameLanguage",
  "typedPrefix",
  "isType",
  "isFunction",
  "isMethod",
  "isField",
  "isConstant",
  "isMember",
  "isCapital",
  "isUpper",
  "isPrivate",
  "nameLength",
  "dotAndMember",
  "dotAndTop",
  "newAndType",
  "typeAndType",
] as const;

export type Feature = (typeof featureNames)[number];

export const FEATURES = featureNames.length;
export const featureIndex = Object.fromEntries(
  featureNames.map((name, i) => [name, i]),
) as Readonly<Record<Feature, number>>;

/** Features that others vote for; they stand first. The others are told by a candidate's definition and name. */
export const VOTES = featureIndex.twinFile;

/** Marks of names without a row; a new array holds the first. */
const UNSEEN = 0;
const REFUSED = -1;

/** Votes for each name that may become a candidate, filled by the sources beside this file. */
export class Evidence {
  /** By name: one more than the offset of its row, or one of the marks above. */
  readonly #rows: Int32Array;
  readonly #mayStand: (name: number) => boolean;
  readonly #names: number[] = [];
  readonly #scratch: Scratch;
  #data: Float32Array;

  /** `names` is the size of the name table; evidence for names that may not stand, or came later, is dropped. */
  constructor(scratch: Scratch, names: number, mayStand: (name: number) => boolean) {
    this.#scratch = scratch;
    this.#rows = scratch.ints(names);
    this.#data = scratch.floats("evidence", 4096 * VOTES);
    this.#mayStand = mayStand;
  }

  /** Names that anything speaks for; the row of the i-th begins at `i * VOTES` of `data`. */
  get names(): readonly number[] {
    return this.#names;
  }

  /** (names, VOTES); another array after more names were mentioned. */
  get data(): Float32Array {
    return this.#data;
  }

  /** Nothing speaks for `name` from now on. */
  refuse(name: number): void {
    this.#rows[name] = REFUSED;
  }

  /** Whether votes for the name count; it is among `names` then. */
  accepts(name: number): boolean {
    return this.#rowOf(name) >= 0;
  }

  /** `vote` is a place in `featureNames`. */
  add(name: number, vote: number, value: number): void {
    const row = this.#rowOf(name);
    if (row < 0) return;
    this.#data[row + vote] = (this.#data[row + vote] ?? 0) + value;
  }

  /** Lifts the vote to `value`, if it is lower. */
  raise(name: number, vote: number, value: number): void {
    const row = this.#rowOf(name);
    if (row < 0) return;
    if ((this.#data[row + vote] ?? 0) < value) this.#data[row + vote] = value;
  }

  /** Offset of the name's row; negative when it gets none. */
  #rowOf(name: number): number {
    const known = this.#rows[name] ?? REFUSED;
    return known === UNSEEN ? this.#newRow(name) : known - 1;
  }

  #newRow(name: number): number {
    if (!this.#mayStand(name)) {
      this.#rows[name] = REFUSED;
      return REFUSED;
    }
    const row = this.#names.length * VOTES;
    this.#rows[name] = row + 1;
    this.#names.push(name);
    if (row + VOTES > this.#data.length) this.#data = this.#scratch.twice("evidence", this.#data);
    return row;
  }
}
