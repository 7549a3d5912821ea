/** Addon, model file and a test completion: each tells more than the one before, and needs it. */
import { statSync } from "node:fs";
import { Backend } from "../backend/backend.ts";
import { ABI_VERSION } from "../backend/native.ts";
import { messageOf } from "../base/errors.ts";
import { type EngineOptions, type EngineParts, loadEngineParts } from "../engine.ts";
import { EngineRun, greedyInput } from "../engineRun.ts";
import { type GgufFile, readGguf } from "../loader/gguf.ts";
import { type Placement, placeModel } from "../model/loadModel.ts";
import { parseMlaMoeConfig } from "../model/parseConfig.ts";
import { type Check, fail, ok, warn } from "./check.ts";

const MIB = 1024 * 1024;
const TEST_TOKENS = 16;
/** A completion that takes longer comes after the user has typed on. */
const SLOW_MS = 500;

/** Whether the native addon loads, which device and instruction set it works on, and with `auto` why on this one. */
export function backendCheck(options: EngineOptions): Check {
  const name = "kernels";
  const { device = "cpu" } = options;
  try {
    const { backend, notes } = place(options);
    const found = [`ABI ${ABI_VERSION}`, backend.describe(), ...notes].join("; ");
    backend.close();
    return found.includes("scalar")
      ? warn(name, found, "use a CPU with AVX2 for acceptable speed")
      : ok(name, found);
  } catch (error) {
    const advice =
      device === "cuda"
        ? "install NVIDIA's driver, or use --device cpu"
        : "install the extension for this platform again";
    return fail(name, messageOf(error), advice);
  }
}

/** The device that the model would run on; the CPU when there is no model to decide by. */
function place({
  modelPath,
  threads,
  device = "cpu",
  contextLength,
  kvCache = "bf16",
}: EngineOptions): Placement {
  const cpu = () => ({ backend: Backend.open({ device: "cpu", nThreads: threads }), notes: [] });
  if (device === "cuda") return { backend: Backend.open({ device }), notes: [] };
  if (device === "cpu") return cpu();
  let gguf: GgufFile;
  try {
    gguf = readGguf(modelPath);
  } catch {
    // The check of the model file says what is wrong with it.
    return cpu();
  }
  return placeModel(gguf, { device, threads, contextLength, kvCache });
}

/** Whether the file is a GGUF whose header, tensor table and size agree, of an architecture that the engine knows. */
export function modelFileCheck(path: string): Check {
  const name = "model file";
  const advice =
    "install Tidepool again, or set the model path to a GGUF of architecture tidepool or deepseek2";
  try {
    const gguf = readGguf(path);
    const architecture = String(gguf.metadata.get("general.architecture") ?? "not named");
    const size = (statSync(path).size / MIB).toFixed(1);
    const found = `${path}, ${size} MiB, architecture ${architecture}, ${gguf.tensors.size} tensors`;
    parseMlaMoeConfig(gguf);
    return ok(name, found);
  } catch (error) {
    return fail(name, messageOf(error), advice);
  }
}

/** Loads the model and completes a few tokens, as the daemon would. */
export function completionCheck(options: EngineOptions): Check {
  const name = "test completion";
  try {
    const startedAt = performance.now();
    const parts = loadEngineParts(options);
    const loadMs = performance.now() - startedAt;
    const { nTokens, ms, result } = complete(parts);
    parts.backend.close();
    const notes = parts.notes.map((note) => `; ${note}`).join("");
    const found = `model loaded in ${loadMs.toFixed(0)} ms, ${result.promptTokens} prompt tokens and ${nTokens} more in ${ms.toFixed(0)} ms${notes}`;
    return ms <= SLOW_MS
      ? ok(name, found)
      : warn(name, found, "end other programs that use the CPU, and check with tidepool bench fim");
  } catch (error) {
    return fail(name, messageOf(error), "see the lines above; else report it with this output");
  }
}

/** One infilling request to its end. Throws the request's error. */
function complete(parts: EngineParts) {
  const prefix = "def add(a, b):\n    return ";
  const suffix = "\n\nprint(add(1, 2))\n";
  const prompt = {
    kind: "infill" as const,
    parts: { prefix, suffix, filename: "add.py", extra: [] },
  };
  return new EngineRun(parts).run(greedyInput(prompt, TEST_TOKENS));
}
