/** The shape of a model with latent attention and experts, whichever architecture its file names. */

export interface MlaMoeConfig {
  vocab: number;
  hidden: number;
  nLayers: number;
  nDenseLayers: number;
  nHeads: number;
  nopeDim: number;
  ropeDim: number;
  vDim: number;
  latentDim: number;
  /** Width of the queries' own latent rows; undefined when queries are projected in one step. */
  queryLatentDim: number | undefined;
  denseFf: number;
  moe: {
    nExperts: number;
    topK: number;
    ff: number;
    sharedFf: number;
    /** 1: softmax; 2: sigmoid. */
    scoreFunc: number;
    nGroups: number;
    topGroups: number;
    normalize: boolean;
    scale: number;
  };
  eps: number;
  contextLength: number;
  /** (ropeDim / 2): angle per position of each interleaved pair. */
  invFreq: Float32Array;
  softmaxScale: number;
  /** Native sparse attention; undefined: every token is attended to. */
  nsa: NsaConfig | undefined;
}

export interface NsaConfig {
  cmpLen: number;
  cmpStride: number;
  selectBlock: number;
  selectN: number;
  window: number;
  initBlocks: number;
  localBlocks: number;
}
