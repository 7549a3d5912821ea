/** Reads small tensors (norms, biases, pooling weights) into memory; other matrices go to the backend through its mapping. */
import { closeSync, openSync, readSync } from "node:fs";
import type { GgufFile } from "./gguf.ts";
import type { GgufTensor } from "./ggufTensors.ts";
import { modelError } from "./metadata.ts";

/** The bytes of `tensor`, as they lie in the file. Throws `bad_model` when the file ends before them. */
export function readBytes(gguf: GgufFile, tensor: GgufTensor): Buffer<ArrayBuffer> {
  const bytes = Buffer.from(new ArrayBuffer(tensor.nBytes));
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
  return bytes;
}

/** The values of `tensor`, which must be F32. Throws `bad_model` when the file ends before them. */
export function readF32(gguf: GgufFile, tensor: GgufTensor): Float32Array {
  const values = new Float32Array(readBytes(gguf, tensor).buffer);
  const bad = values.findIndex((value) => !Number.isFinite(value));
  if (bad >= 0)
    throw modelError(
      gguf,
      `expected finite numbers in ${tensor.name}, found ${values[bad]} at ${bad}`,
    );
  return values;
}
