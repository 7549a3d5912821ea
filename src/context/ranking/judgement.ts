// Scores candidates with the fitted weights: one hidden layer over the features of a candidate and of its place, added
// to a plain weighted sum.
import { FEATURES, type Feature, featureNames } from "./features.ts";
import { placeRow } from "./place.ts";
import type { Scene } from "./scene.ts";
import { HIDDEN, type Weights, weights } from "./weights.ts";

export class Judgement {
  readonly #weights: Weights = weights;
  /** (HIDDEN): what the place alone gives, the same for every candidate. */
  readonly #place: Float32Array;
  readonly #hidden = new Float32Array(HIDDEN);

  constructor(scene: Scene) {
    this.#place = Float32Array.from(this.#weights.hiddenBias);
    const { hiddenOfPlace } = this.#weights;
    for (const [i, value] of placeRow(scene).entries()) {
      if (value === 0) continue;
      for (let h = 0; h < HIDDEN; h++)
        this.#place[h] = (this.#place[h] ?? 0) + value * (hiddenOfPlace[i * HIDDEN + h] ?? 0);
    }
  }

  /** Score of the candidate whose features are `FEATURES` numbers of `data` from `row`, and what speaks most for it. */
  of(data: Float32Array, row: number): { score: number; reason: Feature } {
    const { hiddenOfFeature, outOfHidden, outOfFeature } = this.#weights;
    const hidden = this.#hidden;
    hidden.set(this.#place);
    let score = 0;
    let most = 0;
    let reason: Feature = "usedInFiles";
    for (let i = 0; i < FEATURES; i++) {
      const value = data[row + i] ?? 0;
      if (value === 0) continue;
      const part = value * (outOfFeature[i] ?? 0);
      score += part;
      if (part > most) {
        most = part;
        reason = featureNames[i] ?? reason;
      }
      const at = i * HIDDEN;
      for (let h = 0; h < HIDDEN; h++)
        hidden[h] = (hidden[h] ?? 0) + value * (hiddenOfFeature[at + h] ?? 0);
    }
    for (let h = 0; h < HIDDEN; h++) {
      const value = hidden[h] ?? 0;
      if (value > 0) score += value * (outOfHidden[h] ?? 0);
    }
    return { score, reason };
  }
}
