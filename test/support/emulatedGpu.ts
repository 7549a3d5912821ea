/** The CUDA backend with its kernels run on the CPU (engine/native/tests/emulation): the whole path, without a GPU. */
import { existsSync } from "node:fs";
import { join } from "node:path";

const PLUGIN = join(import.meta.dirname, "../../build/native/tests/emulation/libemulated_cuda.so");

/** The environment in which `--device cuda` finds the emulated GPU. Throws when it was not built. */
export function emulatedGpu(): { TIDEPOOL_CUDA_PLUGIN: string } {
  if (!existsSync(PLUGIN))
    throw new Error(`expected the emulated GPU at ${PLUGIN}: build it with "npm run native"`);
  return { TIDEPOOL_CUDA_PLUGIN: PLUGIN };
}
