/** Reads small F32 tensors (norms, biases, pooling weights) into memory; matrices go to the backend through its mapping. */
import { closeSync, openSync, readSync } from "node:fs";
import type { GgufFile } from "./gguf.ts";
import type { GgufTensor } from "./ggufTensors.ts";
import { modelError } from "./metadata.ts";

/** The values of `tensor`, which must be F32. Throws `bad_model` when the file ends before them. */
export function readF32(gguf: GgufFile, tensor: GgufTensor): Float32Array {
  const values = new Float32Array(tensor.nBytes / 4);
  const bytes = Buffer.from(values.buffer);
  const fd = openSync(gguf.path, "r");
  try {
    let done = 0;
    while (done < bytes.length) {
      const n = readSync(fd, bytes, done, bytes.length - done, tensor.offset + done);
      if (n === 0)
        throw modelError(
          gguf,
          `expected ${bytes.length - done} more bytes of ${tensor.name}, found the end`,
        );
      done += n;
    }
  } finally {
    closeSync(fd);
  }
  const bad = values.findIndex((value) => !Number.isFinite(value));
  if (bad >= 0)
    throw modelError(
      gguf,
      `expected finite numbers in ${tensor.name}, found ${values[bad]} at ${bad}`,
    );
  return values;
}
