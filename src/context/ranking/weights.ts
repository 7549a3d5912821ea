// The weights that scripts/fitContextWeights.py fitted; docs/benchmarks.md says on what.
import fitted from "./fittedWeights.json" with { type: "json" };

export const HIDDEN = fitted.hidden;

/** As wide as the sums that are made of them: a conversion for each product takes most of the time of a score. */
export interface Weights {
  /** (HIDDEN) */
  hiddenBias: Float64Array;
  /** (PLACES, HIDDEN) */
  hiddenOfPlace: Float64Array;
  /** (FEATURES, HIDDEN) */
  hiddenOfFeature: Float64Array;
  /** (HIDDEN) */
  outOfHidden: Float64Array;
  /** (FEATURES) */
  outOfFeature: Float64Array;
  /** By the features that are votes, which stand first: a rough score, which chooses the names that are looked at closely. */
  screen: Float64Array;
}

export const weights: Weights = {
  hiddenBias: Float64Array.from(fitted.hiddenBias),
  hiddenOfPlace: Float64Array.from(fitted.hiddenOfPlace),
  hiddenOfFeature: Float64Array.from(fitted.hiddenOfFeature),
  outOfHidden: Float64Array.from(fitted.outOfHidden),
  outOfFeature: Float64Array.from(fitted.outOfFeature),
  screen: Float64Array.from(fitted.screen),
};

/** What the weights are for, in their order. */
export const fittedFor = { places: fitted.places, features: fitted.features };
