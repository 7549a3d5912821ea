/** What a model takes in memory, known before anything is loaded. */
import { totalmem } from "node:os";
import { KV_BLOCK } from "../backend/params.ts";
import { EngineError } from "../base/errors.ts";
import type { GgufFile } from "../loader/gguf.ts";
import type { MlaMoeConfig } from "./mlaMoeConfig.ts";

/** All in bytes. */
export interface MemoryPlan {
  /** The kernels' copy of the file's tensors, and what they derive from them. */
  weights: number;
  /** When every block is in use; on the CPU, pages are touched on first use. */
  cache: number;
  /** Activations, and on the CPU Node and the tokenizer. */
  workspace: number;
  total: number;
}

/** Node, tokenizer, activations. */
const PROCESS_BYTES = 150 * 1024 * 1024;
/** A smaller context than this is not offered instead of a larger one: too little of a file fits into it. */
const LEAST_CONTEXT = 2048;
const GIB = 1024 ** 3;

/** Blocks of the cache: room for one request of the whole context, and for what other files' requests left. */
export function cacheBlocks(contextLength: number): number {
  return Math.ceil((contextLength * 5) / 4 / KV_BLOCK) + 16;
}

export function planMemory(
  gguf: GgufFile,
  config: MlaMoeConfig,
  contextLength: number,
): MemoryPlan {
  const { nLayers, nHeads, nopeDim, vDim, latentDim, ropeDim, nsa } = config;
  let weights = 0;
  for (const { nBytes } of gguf.tensors.values()) weights += nBytes;
  // Attention keeps W_UK and W_UV as f32.
  weights += nLayers * nHeads * (nopeDim + vDim) * latentDim * 4;
  const pooled = nsa === undefined ? 0 : (2 * latentDim + ropeDim) / nsa.cmpStride;
  const perToken = nLayers * (latentDim + 2 * ropeDim + pooled) * 2;
  const cache = cacheBlocks(contextLength) * KV_BLOCK * perToken;
  return sumOf({ weights, cache, workspace: PROCESS_BYTES });
}

export function sumOf(parts: Omit<MemoryPlan, "total">): MemoryPlan {
  return { ...parts, total: parts.weights + parts.cache + parts.workspace };
}

/** Memory of this machine, or of the container that this process may not leave. Bytes. */
function memoryOfMachine(): number {
  const limit = process.constrainedMemory();
  return limit > 0 ? Math.min(limit, totalmem()) : totalmem();
}

/**
 * The context to offer on the CPU: `wanted`, else the file's own as far as memory reaches. Throws `out_of_memory` with what
 * would fit when the model does not.
 */
export function contextThatFits(
  gguf: GgufFile,
  config: MlaMoeConfig,
  wanted: number | undefined,
  available: number = memoryOfMachine(),
): number {
  return fitContext({
    path: gguf.path,
    own: config.contextLength,
    wanted,
    planOf: (tokens) => planMemory(gguf, config, tokens),
    memory: { kind: "memory", available },
    elsewise: "a file with smaller weights may fit",
  });
}

interface Fit {
  path: string;
  /** The file's own context. */
  own: number;
  wanted: number | undefined;
  planOf: (contextLength: number) => MemoryPlan;
  memory: { kind: "memory" | "GPU memory"; available: number };
  /** What may help when no context fits. */
  elsewise: string;
  /** An option that takes less. */
  other?: { how: string; planOf: (contextLength: number) => MemoryPlan };
}

/** As `contextThatFits`, for any plan and memory. */
export function fitContext({ path, own, wanted, planOf, memory, elsewise, other }: Fit): number {
  const { kind, available } = memory;
  const within = (plan: Fit["planOf"]) => (tokens: number) => plan(tokens).total <= available;
  const fits = within(planOf);
  const asked = Math.min(own, wanted ?? own);
  if (fits(asked)) return asked;
  const most = largestThat(fits, asked);
  if (wanted === undefined && most >= LEAST_CONTEXT) return most;
  const plan = planOf(asked);
  const parts = `weights ${gib(plan.weights)}, cache of ${asked} tokens ${gib(plan.cache)}, workspace ${gib(plan.workspace)}`;
  const more = other === undefined ? 0 : mostThatFits(within(other.planOf), asked);
  const otherwise = more > most ? `; with ${other?.how} ${more} tokens do` : "";
  throw new EngineError(
    "out_of_memory",
    `${path}: expected ${gib(plan.total)} of ${kind} (${parts}), found ${gib(available)}: ${most > 0 ? `a context of ${most} tokens fits` : elsewise}${otherwise}`,
  );
}

/** `asked` if it fits, else as `largestThat`. */
function mostThatFits(fits: (tokens: number) => boolean, asked: number): number {
  return fits(asked) ? asked : largestThat(fits, asked);
}

/** The largest multiple of the block size below `above` for which `fits` holds, or 0. */
function largestThat(fits: (tokens: number) => boolean, above: number): number {
  let [low, high] = [0, Math.floor(above / KV_BLOCK)];
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (fits(middle * KV_BLOCK)) low = middle;
    else high = middle - 1;
  }
  return low * KV_BLOCK;
}

export function gib(nBytes: number): string {
  return `${(nBytes / GIB).toFixed(1)} GiB`;
}
