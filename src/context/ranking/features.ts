// What speaks for a name: one number for each kind of evidence. The order is that of the fitted weights.
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

const UNSEEN = -1;
const REFUSED = -2;

/** Evidence for each name that may become a candidate, filled by the sources beside this file. */
export class Evidence {
  /** By name: the offset of its row, or one of the marks above. */
  readonly #rows: Int32Array;
  readonly #mayStand: (name: number) => boolean;
  readonly #names: number[] = [];
  #data = new Float32Array(2048 * FEATURES);

  /** `names` is the size of the name table; evidence for names that may not stand, or came later, is dropped. */
  constructor(names: number, mayStand: (name: number) => boolean) {
    this.#rows = new Int32Array(names).fill(UNSEEN);
    this.#mayStand = mayStand;
  }

  /** Names that anything speaks for; the row of the i-th begins at `i * FEATURES` of `data`. */
  get names(): readonly number[] {
    return this.#names;
  }

  /** (names, FEATURES); another array after more names were mentioned. */
  get data(): Float32Array {
    return this.#data;
  }

  add(name: number, feature: Feature, value: number): void {
    const row = this.#rowOf(name);
    if (row < 0) return;
    const at = row + featureIndex[feature];
    this.#data[at] = (this.#data[at] ?? 0) + value;
  }

  raise(name: number, feature: Feature, value: number): void {
    const row = this.#rowOf(name);
    if (row < 0) return;
    const at = row + featureIndex[feature];
    if ((this.#data[at] ?? 0) < value) this.#data[at] = value;
  }

  #rowOf(name: number): number {
    const known = this.#rows[name] ?? REFUSED;
    if (known !== UNSEEN) return known;
    if (!this.#mayStand(name)) {
      this.#rows[name] = REFUSED;
      return REFUSED;
    }
    const row = this.#names.length * FEATURES;
    this.#rows[name] = row;
    this.#names.push(name);
    if (row + FEATURES > this.#data.length) {
      const larger = new Float32Array(this.#data.length * 2);
      larger.set(this.#data);
      this.#data = larger;
    }
    return row;
  }
}
