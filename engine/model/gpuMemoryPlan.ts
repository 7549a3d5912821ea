/** What a model takes of the memory of a GPU, which is counted before anything is loaded. */
import type { Backend } from "../backend/backend.ts";
import type { KvCacheFormat } from "../backend/params.ts";
import type { GgufFile } from "../loader/gguf.ts";
import { FUSED_STEP, stepLogitsBytes } from "./fusedModel.ts";
import { fusedParams } from "./fusedWeights.ts";
import { cacheBlocks, fitContext, gib, type MemoryPlan, planMemory, sumOf } from "./memoryPlan.ts";
import type { MlaMoeConfig } from "./mlaMoeConfig.ts";

const MIB = 1024 * 1024;
/** Left free: the driver takes memory for code, graphs and other programs' windows while we run. */
const RESERVE = 256 * MIB;
/** In which the choices of a step are worked out: the least that the kernels' scratch memory takes. */
const SCRATCH = 4 * MIB;
/** Of each tensor: planes and allocations are rounded up. */
const ROUNDING = 4096;
/** Activations and scratch memory of models that are computed op by op. */
const OPS_WORKSPACE = 512 * MIB;
/** Bytes of a weight in a Q4_K_M file, which is the smallest mix that the fused kernels take. */
const Q4_K_M = 0.61;

/** Where a model runs on the GPU, and how: `fused` when its step is one call. */
export interface GpuMemory {
  backend: Backend;
  gguf: GgufFile;
  config: MlaMoeConfig;
  fused: boolean;
  /** Of a fused model, bf16 when missing; ops have one format. */
  kvCache?: KvCacheFormat;
}

/** Bytes of weights, of the cache for this context, and of the workspace. */
export function planGpuMemory(gpu: GpuMemory, contextLength: number): MemoryPlan {
  const { backend, gguf, config, fused, kvCache = "bf16" } = gpu;
  const weights = [...gguf.tensors.values()].reduce((sum, t) => sum + t.nBytes + ROUNDING, 0);
  if (!fused) {
    // Ops keep cached rows in the same form as on the CPU.
    const { cache } = planMemory(gguf, config, contextLength);
    return sumOf({ weights: weights + joined(gguf, config), cache, workspace: OPS_WORKSPACE });
  }
  const params = fusedParams(config, cacheBlocks(contextLength), FUSED_STEP.tokens, kvCache);
  const { cacheBytes, workspaceBytes } = backend.fusedModels.plan(params);
  const workspace = workspaceBytes + stepLogitsBytes(params) + SCRATCH;
  return sumOf({ weights, cache: cacheBytes, workspace });
}

/** Bytes of W_UK and W_UV where the file has them apart: ops take them joined, as f32. */
function joined({ tensors }: GgufFile, c: MlaMoeConfig): number {
  const isApart = [...tensors.keys()].some((name) => name.endsWith("attn_k_b.weight"));
  return isApart ? c.nLayers * c.nHeads * (c.nopeDim + c.vDim) * c.latentDim * 4 : 0;
}

/**
 * The context to offer on the GPU: `wanted`, else the file's own as far as the memory that is free now reaches. Throws
 * `out_of_memory` with what would fit when the model does not.
 */
export function contextOnGpu(gpu: GpuMemory, wanted: number | undefined): number {
  const { gguf, config, backend, fused, kvCache = "bf16" } = gpu;
  const smallerCache: GpuMemory = { ...gpu, kvCache: "fp8" };
  const available = Math.max(0, (backend.deviceMemory()?.freeBytes ?? 0) - RESERVE);
  return fitContext({
    path: gguf.path,
    own: config.contextLength,
    wanted,
    planOf: (tokens) => planGpuMemory(gpu, tokens),
    memory: { kind: "GPU memory", available },
    ...(fused && kvCache === "bf16"
      ? { other: { how: "--kv-cache fp8", planOf: (n: number) => planGpuMemory(smallerCache, n) } }
      : {}),
    elsewise: smallerFile(gpu, available),
  });
}

/** One line: what the model takes of the memory that was free before. */
export function describePlan(gpu: GpuMemory, contextLength: number, freeBytes: number): string {
  const plan = planGpuMemory(gpu, contextLength);
  const kind = gpu.fused && gpu.kvCache === "fp8" ? "in fp8 " : "";
  const parts = `weights ${gib(plan.weights)}, cache of ${contextLength} tokens ${kind}${gib(plan.cache)}, workspace ${gib(plan.workspace)}`;
  return `GPU memory: ${gib(plan.total)} of ${gib(freeBytes)} free (${parts})`;
}

/** What to try when not even the shortest context fits. */
function smallerFile(gpu: GpuMemory, available: number): string {
  let nWeights = 0;
  for (const { dims } of gpu.gguf.tensors.values())
    nWeights += dims.reduce((product, dim) => product * dim, 1);
  const { weights, workspace } = planGpuMemory(gpu, 1);
  const smaller = nWeights * Q4_K_M;
  return smaller < weights && smaller + workspace < available
    ? `a Q4_K_M file of this model, with weights of about ${gib(smaller)}, fits`
    : "no quantisation that has kernels fits; use --device cpu";
}
