// The weights that scripts/fitContextWeights.py fitted; docs/benchmarks.md says on what.
import fitted from "./fittedWeights.json" with { type: "json" };

export const HIDDEN = fitted.hidden;

export interface Weights {
  /** (HIDDEN) */
  hiddenBias: Float32Array;
  /** (PLACES, HIDDEN) */
  hiddenOfPlace: Float32Array;
  /** (FEATURES, HIDDEN) */
  hiddenOfFeature: Float32Array;
  /** (HIDDEN) */
  outOfHidden: Float32Array;
  /** (FEATURES) */
  outOfFeature: Float32Array;
  /** By the features that are votes, which stand first: a rough score, which chooses the names that are looked at closely. */
  screen: Float32Array;
}

export const weights: Weights = {
  hiddenBias: Float32Array.from(fitted.hiddenBias),
  hiddenOfPlace: Float32Array.from(fitted.hiddenOfPlace),
  hiddenOfFeature: Float32Array.from(fitted.hiddenOfFeature),
  outOfHidden: Float32Array.from(fitted.outOfHidden),
  outOfFeature: Float32Array.from(fitted.outOfFeature),
  screen: Float32Array.from(fitted.screen),
};

/** What the weights are for, in their order. */
export const fittedFor = { places: fitted.places, features: fitted.features };
