/**
 * Writes small random models of the kind of DeepSeek-Coder-V2-Lite: its 16 heads and 512 + 64 latents, which the fused
 * kernels are made for, over a narrow residual of two layers. Made at test time: such heads take megabytes.
 */
import { seededRandom } from "../../engine/sampling/sampler.ts";
import { encodeF32, toHalf, type WriterTensor, type WriterValue, writeGguf } from "./ggufWriter.ts";
import { tinyVocabulary } from "./tinyVocabulary.ts";

const HEADS = 16;
const [NOPE, ROPE, VALUE, LATENT] = [128, 64, 128, 512];
const [HIDDEN, DENSE_FF, FF, EXPERTS, TOP_K, SHARED] = [256, 320, 128, 8, 3, 2];
const LAYERS = 2;
const VOCAB = 320;

/** Type numbers of GGUF. */
const TYPE = { F32: 0, Q5_0: 6, Q8_0: 8, Q4_K: 12, Q6_K: 14 } as const;
type TypeName = keyof typeof TYPE;

export interface LiteFixtureOptions {
  /** `old`: W_UK and W_UV in one tensor, types as in Q4_K_M files; `new`: in two, all Q8_0. */
  converter: "old" | "new";
  seed: number;
  /** 1024 when missing. */
  contextLength?: number;
  /** Factor of the experts' weights; only 1 has fused kernels. */
  scale?: number;
  /** Type of the shared experts' down weights; Q6_K when missing. */
  sharedDown?: "Q4_K" | "Q6_K";
}

/** Writes the model to `path`. */
export function writeLiteFixture(path: string, options: LiteFixtureOptions): void {
  writeGguf(path, metadata(options), new Maker(options).tensors());
}

function metadata({ contextLength = 1024, scale = 1 }: LiteFixtureOptions) {
  const u32 = {
    context_length: contextLength,
    embedding_length: HIDDEN,
    block_count: LAYERS,
    leading_dense_block_count: 1,
    feed_forward_length: DENSE_FF,
    "attention.head_count": HEADS,
    "attention.kv_lora_rank": LATENT,
    "attention.key_length": NOPE + ROPE,
    "attention.value_length": VALUE,
    "rope.dimension_count": ROPE,
    "rope.scaling.original_context_length": 64,
    expert_count: EXPERTS,
    expert_used_count: TOP_K,
    expert_shared_count: SHARED,
    expert_feed_forward_length: FF,
  };
  const f32 = {
    "attention.layer_norm_rms_epsilon": 1e-6,
    "rope.freq_base": 10_000,
    "rope.scaling.factor": 4,
    "rope.scaling.yarn_log_multiplier": 0.0707,
    expert_weights_scale: scale,
  };
  const out: Record<string, WriterValue> = {
    "general.architecture": { string: "deepseek2" },
    "deepseek2.rope.scaling.type": { string: "yarn" },
    ...vocabulary(),
  };
  for (const [key, value] of Object.entries(u32)) out[`deepseek2.${key}`] = { u32: value };
  for (const [key, value] of Object.entries(f32)) out[`deepseek2.${key}`] = { f32: value };
  return out;
}

/** The tiny vocabulary, filled up to a multiple of 16. */
function vocabulary(): Record<string, WriterValue> {
  const { metadata: keys, nTokens } = tinyVocabulary();
  const tokens = keys["tokenizer.ggml.tokens"];
  const types = keys["tokenizer.ggml.token_type"];
  if (tokens === undefined || types === undefined || !("strings" in tokens) || !("i32s" in types))
    throw new Error("expected tokens and their types in the tiny vocabulary");
  const more = Array.from({ length: VOCAB - nTokens }, (_, i) => `filler${i}`);
  return {
    ...keys,
    "tokenizer.ggml.tokens": { strings: [...tokens.strings, ...more] },
    "tokenizer.ggml.token_type": { i32s: [...types.i32s, ...more.map(() => 1)] },
  };
}

class Maker {
  private readonly random: () => number;
  private readonly options: LiteFixtureOptions;
  private readonly made: WriterTensor[] = [];

  constructor(options: LiteFixtureOptions) {
    this.options = options;
    this.random = seededRandom(options.seed);
  }

  tensors(): WriterTensor[] {
    this.matrix("token_embd.weight", "Q4_K", HIDDEN, VOCAB);
    this.matrix("output.weight", "Q6_K", HIDDEN, VOCAB);
    this.vector("output_norm.weight", HIDDEN);
    for (let i = 0; i < LAYERS; i++) this.layer(`blk.${i}.`, i === 0);
    return this.made;
  }

  private layer(at: string, isDense: boolean): void {
    this.vector(`${at}attn_norm.weight`, HIDDEN);
    this.vector(`${at}attn_kv_a_norm.weight`, LATENT);
    this.vector(`${at}ffn_norm.weight`, HIDDEN);
    this.matrix(`${at}attn_q.weight`, "Q4_K", HIDDEN, HEADS * (NOPE + ROPE));
    // Of another type than the queries, as some quantisers choose.
    this.matrix(`${at}attn_kv_a_mqa.weight`, "Q8_0", HIDDEN, LATENT + ROPE);
    this.matrix(`${at}attn_output.weight`, "Q4_K", HEADS * VALUE, HIDDEN);
    if (this.options.converter === "old")
      this.matrix(`${at}attn_kv_b.weight`, "Q4_K", LATENT, HEADS * (NOPE + VALUE));
    else {
      this.matrix(`${at}attn_k_b.weight`, "Q8_0", NOPE, LATENT, HEADS);
      this.matrix(`${at}attn_v_b.weight`, "Q8_0", LATENT, VALUE, HEADS);
    }
    if (isDense) {
      this.feedForward(at, "", DENSE_FF, "Q5_0");
      return;
    }
    this.floats(`${at}ffn_gate_inp.weight`, [HIDDEN, EXPERTS], 1 / Math.sqrt(HIDDEN), 0);
    this.feedForward(at, "_exps", FF, "Q8_0", EXPERTS);
    this.feedForward(at, "_shexp", FF * SHARED, this.options.sharedDown ?? "Q6_K");
  }

  private feedForward(at: string, suffix: string, ff: number, down: TypeName, n?: number): void {
    const stack = n === undefined ? [] : [n];
    for (const part of ["gate", "up"])
      this.matrix(`${at}ffn_${part}${suffix}.weight`, "Q4_K", HIDDEN, ff, ...stack);
    this.matrix(`${at}ffn_down${suffix}.weight`, down, ff, HIDDEN, ...stack);
  }

  private vector(name: string, n: number): void {
    this.floats(name, [n], 0.5, 1);
  }

  /** Uniform numbers of this deviation, about, around `mean`. */
  private floats(name: string, dims: number[], deviation: number, mean: number): void {
    const n = dims.reduce((product, dim) => product * dim, 1);
    const values = Float32Array.from(
      { length: n },
      () => mean + (this.random() - 0.5) * deviation * 2,
    );
    this.made.push({ name, type: TYPE.F32, dims, data: encodeF32(values) });
  }

  /** Random blocks whose values have the deviation 1 / sqrt(columns), about. */
  private matrix(name: string, wish: TypeName, columns: number, ...others: number[]): void {
    const type = this.options.converter === "new" ? "Q8_0" : wish;
    const nRows = others.reduce((product, dim) => product * dim, 1);
    const { values, bytes } = BLOCKS[type];
    const block = Buffer.alloc(bytes);
    const data = Buffer.alloc((columns / values) * nRows * bytes);
    for (let at = 0; at < data.length; at += bytes) {
      for (let i = 0; i < bytes; i++) block[i] = this.random() * 256;
      SCALES[type](block, 1 / Math.sqrt(columns));
      block.copy(data, at);
    }
    this.made.push({ name, type: TYPE[type], dims: [columns, ...others], data });
  }
}

const BLOCKS: Record<TypeName, { values: number; bytes: number }> = {
  F32: { values: 1, bytes: 4 },
  Q5_0: { values: 32, bytes: 22 },
  Q8_0: { values: 32, bytes: 34 },
  Q4_K: { values: 256, bytes: 144 },
  Q6_K: { values: 256, bytes: 210 },
};

/** Writes the scales of a block of random bits so that its values have about the size `value`. */
const SCALES: Record<TypeName, (block: Buffer, value: number) => void> = {
  F32: (block, value) => block.writeFloatLE(value),
  Q5_0: (block, value) => block.writeUInt16LE(toHalf(value / 9.2)),
  Q8_0: (block, value) => block.writeUInt16LE(toHalf(value / 74)),
  Q4_K: (block, value) => {
    // The minimum is 7.5 steps in every part, so that values lie around zero.
    const scale = value / (12 * 4.6);
    block.writeUInt16LE(toHalf(scale));
    block.writeUInt16LE(toHalf(scale * 7.5), 2);
    for (let part = 0; part < 4; part++) {
      block[4 + part] = 8 + ((block[4 + part] ?? 0) & 7);
      block[8 + part] = block[4 + part] ?? 0;
      const later = 8 + ((block[12 + part] ?? 0) & 7);
      block[12 + part] = later | (later << 4);
    }
  },
  Q6_K: (block, value) => {
    for (let i = 192; i < 208; i++) block[i] = 4 + ((block[i] ?? 0) & 3);
    block.writeUInt16LE(toHalf(value / (5.5 * 18.5)), 208);
  },
};
