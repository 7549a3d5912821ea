/** Which device a model file runs on, and in which way: decided before anything is loaded, and said in a line each. */
import { Backend } from "../backend/backend.ts";
import type { KvCacheFormat } from "../backend/params.ts";
import { EngineError, messageOf } from "../base/errors.ts";
import type { GgufFile } from "../loader/gguf.ts";
import { FusedModel, type FusedSizes } from "./fusedModel.ts";
import { fusedObstacle } from "./fusedWeights.ts";
import { contextOnGpu, describePlan } from "./gpuMemoryPlan.ts";
import { MlaMoeModel } from "./mlaMoe.ts";
import type { MlaMoeConfig } from "./mlaMoeConfig.ts";
import type { Model } from "./model.ts";
import { parseMlaMoeConfig } from "./parseConfig.ts";

export type DeviceWish = "auto" | "cpu" | "cuda";

export interface LoadOptions {
  /** `auto`: the GPU where there is one and the model fits and gains by it. */
  device: DeviceWish;
  /** 0: all physical cores. */
  threads: number;
  /** Context to offer; the file's own, as far as memory reaches, when missing. */
  contextLength: number | undefined;
  /** How fused kernels keep cached rows; bf16 when missing. */
  kvCache?: KvCacheFormat;
}

/** A device, and why it is this one and what the model takes of it. */
export interface Placement {
  backend: Backend;
  notes: string[];
}

/** Weights below this are left to the CPU by `auto`: it is quick with them, and the GPU stays free for others. */
export const SMALL_MODEL_BYTES = 256 * 1024 * 1024;

const NO_FP8_CACHE = "cached rows are kept in f16: fp8 is for models that fused kernels compute";

/** Opens the device for `gguf`. Throws `device` or `out_of_memory` when it is asked for by name and does not do. */
export function placeModel(gguf: GgufFile, options: LoadOptions): Placement {
  const { device, threads } = options;
  if (device !== "auto") return { backend: Backend.open({ device, nThreads: threads }), notes: [] };
  const onCpu = (why: string): Placement => ({
    backend: Backend.open({ device: "cpu", nThreads: threads }),
    notes: [`device auto: the CPU, because ${why}`],
  });
  let bytes = 0;
  for (const { nBytes } of gguf.tensors.values()) bytes += nBytes;
  if (bytes < SMALL_MODEL_BYTES)
    return onCpu("the model is small enough for it (--device cuda uses a GPU)");
  try {
    const backend = openFitting(gguf, options);
    return { backend, notes: ["device auto: the GPU, because the model fits"] };
  } catch (error) {
    if (EngineError.is(error, "device") || EngineError.is(error, "out_of_memory"))
      return onCpu(messageOf(error));
    throw error;
  }
}

function openFitting(gguf: GgufFile, { contextLength, kvCache = "bf16" }: LoadOptions): Backend {
  const backend = Backend.open({ device: "cuda" });
  try {
    const config = parseMlaMoeConfig(gguf);
    const fused = fusedObstacle(backend, gguf, config) === undefined;
    contextOnGpu({ backend, gguf, config, fused, kvCache }, contextLength);
    return backend;
  } catch (error) {
    backend.close();
    throw error;
  }
}

/**
 * Loads `gguf` on a placed device: by fused kernels where there are some for it, else op by op.
 * Throws `bad_model`, `out_of_memory` with what would fit, or a backend's error.
 */
export function loadModel(
  { backend, notes }: Placement,
  gguf: GgufFile,
  contextLength: number | undefined,
  kvCache: KvCacheFormat = "bf16",
): { model: Model; notes: string[] } {
  const config = parseMlaMoeConfig(gguf);
  const wish = contextLength === undefined ? {} : { contextLength };
  const memory = backend.deviceMemory();
  const asked = kvCache === "bf16" ? [] : [NO_FP8_CACHE];
  if (memory === undefined)
    return { model: new MlaMoeModel(backend, gguf, wish), notes: [...notes, ...asked] };
  const gpu = { backend, gguf, config, fused: true, kvCache };
  const byOps = (obstacle: string) => {
    const model = new MlaMoeModel(backend, gguf, wish);
    const plan = describePlan({ ...gpu, fused: false }, model.contextLength, memory.freeBytes);
    const why = `computed op by op, not by fused kernels: ${obstacle}`;
    return { model, notes: [...notes, why, ...asked, plan] };
  };
  const obstacle = fusedObstacle(backend, gguf, config);
  if (obstacle !== undefined) return byOps(obstacle);
  const fitting = contextOnGpu(gpu, contextLength);
  const plan = describePlan(gpu, fitting, memory.freeBytes);
  const model = tryFused(backend, gguf, config, { contextLength: fitting, kvCache }, plan);
  if (typeof model === "string") return byOps(model);
  return { model, notes: [...notes, plan] };
}

/** The model, or why its weights' types have no kernels. Throws `out_of_memory` when other programs took what was planned. */
function tryFused(
  backend: Backend,
  gguf: GgufFile,
  config: MlaMoeConfig,
  sizes: FusedSizes,
  plan: string,
): FusedModel | string {
  try {
    return FusedModel.load(backend, gguf, config, sizes);
  } catch (cause) {
    if (EngineError.is(cause, "bad_argument")) return cause.message;
    if (!EngineError.is(cause, "out_of_memory")) throw cause;
    const message = `${gguf.path}: expected the planned memory to stay free, found less while loading (${plan})`;
    throw new EngineError("out_of_memory", message, { cause });
  }
}
