// What speaks for a name: one number for each kind of evidence.
export const featureNames = [
  "bias",
  "importedName",
  "importedDefinition",
  "importedMember",
  "siblingDefinition",
  "siblingMember",
  "similarLines",
  "nextName",
  "sameLine",
  "receiverMember",
  "nearTypeMember",
  "inNearSignature",
  "similarFiles",
  "sameFolder",
  "usedInFiles",
  "sharedWords",
  "nearness",
  "isType",
  "isMember",
  "dotAndMember",
  "typedPrefix",
  "manyDefinitions",
  "isTest",
  "receiverModule",
  "isDefinedOnly",
  "similarAndVisible",
  "dotAndTop",
  "wordsAndVisible",
  "sameLanguage",
  "isCapital",
  "newAndType",
] as const;

export type Feature = (typeof featureNames)[number];

export const FEATURES = featureNames.length;
export const featureIndex = Object.fromEntries(
  featureNames.map((name, i) => [name, i]),
) as Readonly<Record<Feature, number>>;

/** Evidence for each name, filled by the sources beside this file. */
export class Evidence {
  readonly #of = new Map<number, Float32Array>();

  /** (FEATURES): created at the first mention. */
  of(name: number): Float32Array {
    let row = this.#of.get(name);
    if (!row) {
      row = new Float32Array(FEATURES);
      this.#of.set(name, row);
    }
    return row;
  }

  add(name: number, feature: Feature, value: number): void {
    const row = this.of(name);
    const at = featureIndex[feature];
    row[at] = (row[at] ?? 0) + value;
  }

  raise(name: number, feature: Feature, value: number): void {
    const row = this.of(name);
    const at = featureIndex[feature];
    if ((row[at] ?? 0) < value) row[at] = value;
  }

  entries(): IterableIterator<[number, Float32Array]> {
    return this.#of.entries();
  }
}
