// Scores candidates with the fitted weights: one hidden layer over the features of a candidate and of its place, added
// to a plain weighted sum.
import { FEATURES, type Feature, featureNames } from "./features.ts";
import { placeRow } from "./place.ts";
import type { Scene } from "./scene.ts";
import { HIDDEN, type Weights, weights } from "./weights.ts";

export class Judgement {
  readonly #weights: Weights = weights;
  /** (HIDDEN): what the place alone gives, the same for every candidate. */
  readonly #place: Float64Array;
  /** Features that are not 0, and where their weights begin. */
  readonly #values = new Float64Array(FEATURES);
  readonly #rows = new Int32Array(FEATURES);

  constructor(scene: Scene) {
    this.#place = Float64Array.from(this.#weights.hiddenBias);
    const { hiddenOfPlace } = this.#weights;
    for (const [i, value] of placeRow(scene).entries()) {
      if (value === 0) continue;
      for (let h = 0; h < HIDDEN; h++)
        this.#place[h] = (this.#place[h] ?? 0) + value * (hiddenOfPlace[i * HIDDEN + h] ?? 0);
    }
  }

  /** Score of the candidate with these `features`, and what speaks most for it. */
  of(features: Float32Array): { score: number; reason: Feature } {
    const { outOfFeature } = this.#weights;
    let score = 0;
    let most = 0;
    let reason: Feature = "usedInFiles";
    let given = 0;
    for (let i = 0; i < FEATURES; i++) {
      const value = features[i] ?? 0;
      if (value === 0) continue;
      this.#values[given] = value;
      this.#rows[given++] = i * HIDDEN;
      const part = value * (outOfFeature[i] ?? 0);
      score += part;
      if (part > most) {
        most = part;
        reason = featureNames[i] ?? reason;
      }
    }
    for (let h = 0; h < HIDDEN; h += 4) score += this.#fourHidden(h, given);
    return { score, reason };
  }

  /** What four hidden units give, side by side: their sums stay in registers. */
  #fourHidden(h: number, given: number): number {
    const { hiddenOfFeature: weight, outOfHidden: out } = this.#weights;
    let a = this.#place[h] ?? 0;
    let b = this.#place[h + 1] ?? 0;
    let c = this.#place[h + 2] ?? 0;
    let d = this.#place[h + 3] ?? 0;
    for (let i = 0; i < given; i++) {
      const value = this.#values[i] ?? 0;
      const at = (this.#rows[i] ?? 0) + h;
      a += value * (weight[at] ?? 0);
      b += value * (weight[at + 1] ?? 0);
      c += value * (weight[at + 2] ?? 0);
      d += value * (weight[at + 3] ?? 0);
    }
    return (
      Math.max(a, 0) * (out[h] ?? 0) +
      Math.max(b, 0) * (out[h + 1] ?? 0) +
      Math.max(c, 0) * (out[h + 2] ?? 0) +
      Math.max(d, 0) * (out[h + 3] ?? 0)
    );
  }
}
