/** Tensors of a file on their way to the backend: matrices through its mapping, vectors by copy. */
import type { BufferHandle, MappingHandle, WeightHandle } from "../backend/addon.ts";
import type { Backend } from "../backend/backend.ts";
import type { GgufFile } from "../loader/gguf.ts";
import { tensorType, tensorTypeNames } from "../loader/ggufTensors.ts";
import { tensorOf } from "../loader/metadata.ts";
import { readBytes, readF32 } from "../loader/tensorData.ts";

/** Every method throws `bad_model` when the tensor is missing or has another shape or type. */
export class TensorUpload {
  readonly backend: Backend;
  private readonly gguf: GgufFile;
  private readonly mapping: MappingHandle;

  constructor(backend: Backend, gguf: GgufFile) {
    this.backend = backend;
    this.gguf = gguf;
    this.mapping = backend.openMapping(gguf.path).mapping;
  }

  has(name: string): boolean {
    return this.gguf.tensors.has(name);
  }

  /** A stack of `nMatrices` matrices (nRows, nCols). */
  matrix(name: string, nRows: number, nCols: number, nMatrices?: number): WeightHandle {
    const dims = nMatrices === undefined ? [nCols, nRows] : [nCols, nRows, nMatrices];
    const tensor = tensorOf(this.gguf, name, dims, tensorTypeNames);
    return this.backend.createWeight(this.mapping, tensor.offset, {
      type: tensorType[tensor.type],
      nMatrices: nMatrices ?? 1,
      nRows,
      nCols,
    });
  }

  /** An F32 tensor of any shape, given innermost first. */
  vector(name: string, ...dims: number[]): BufferHandle {
    return this.backend.allocFrom(readF32(this.gguf, tensorOf(this.gguf, name, dims, ["F32"])));
  }

  /** The rows of a matrix as two stacks: of every `period` rows the first `split`, and the others. Values stay as in the file. */
  splitRows(
    name: string,
    shape: { nRows: number; nCols: number; period: number; split: number },
  ): [WeightHandle, WeightHandle] {
    const { nRows, nCols, period, split } = shape;
    const tensor = tensorOf(this.gguf, name, [nCols, nRows], tensorTypeNames);
    const bytes = readBytes(this.gguf, tensor);
    const rowBytes = tensor.nBytes / nRows;
    const nMatrices = nRows / period;
    const stack = (from: number, to: number) => {
      const parts = Array.from({ length: nMatrices }, (_, i) =>
        bytes.subarray((i * period + from) * rowBytes, (i * period + to) * rowBytes),
      );
      const type = tensorType[tensor.type];
      const matrices = { type, nMatrices, nRows: to - from, nCols };
      return this.backend.createWeightFromMemory(Buffer.concat(parts), matrices);
    };
    return [stack(0, split), stack(split, period)];
  }

  /** The exact values of a stack of matrices (nMatrices, nRows, nCols), decoded by the backend. */
  values(name: string, nRows: number, nCols: number, nMatrices: number): Float32Array {
    const { backend } = this;
    const tensor = tensorOf(this.gguf, name, [nCols, nRows, nMatrices], tensorTypeNames);
    const shape = { nMatrices: 1, nRows: nRows * nMatrices, nCols };
    const type = tensorType[tensor.type];
    const table = backend.createWeight(this.mapping, tensor.offset, { type, ...shape });
    const values = new Float32Array(shape.nRows * nCols);
    const out = backend.alloc(values.byteLength);
    backend.embed(
      out,
      table,
      Int32Array.from({ length: shape.nRows }, (_, row) => row),
    );
    backend.download(values, out, 0);
    backend.dispose(out);
    backend.dispose(table);
    return values;
  }

  close(): void {
    this.backend.dispose(this.mapping);
  }
}
