/** The tensor table of a GGUF file: types, shapes and places, checked so that every tensor lies inside the file alone. */
import type { FileReader } from "./fileReader.ts";

/** The tensor types that the kernels read; numbers are GGUF's. */
export const tensorType = {
  F32: 0,
  F16: 1,
  Q4_0: 2,
  Q5_0: 6,
  Q8_0: 8,
  Q4_K: 12,
  Q5_K: 13,
  Q6_K: 14,
  BF16: 30,
} as const;
export type TensorTypeName = keyof typeof tensorType;

export interface GgufTensor {
  readonly name: string;
  readonly type: TensorTypeName;
  /** Innermost first, as in the file: a (rows, columns) matrix is [columns, rows]. */
  readonly dims: readonly number[];
  /** From the start of the file. */
  readonly offset: number;
  readonly nBytes: number;
}

/** Values per block, and bytes of a block. */
export const blockLayout: Record<TensorTypeName, { values: number; bytes: number }> = {
  F32: { values: 1, bytes: 4 },
  F16: { values: 1, bytes: 2 },
  Q4_0: { values: 32, bytes: 18 },
  Q5_0: { values: 32, bytes: 22 },
  Q8_0: { values: 32, bytes: 34 },
  Q4_K: { values: 256, bytes: 144 },
  Q5_K: { values: 256, bytes: 176 },
  Q6_K: { values: 256, bytes: 210 },
  BF16: { values: 1, bytes: 2 },
};

const MAX_DIMS = 4;
export const tensorTypeNames = Object.keys(tensorType) as TensorTypeName[];
const typeNames = new Map<number, TensorTypeName>(
  tensorTypeNames.map((name) => [tensorType[name], name]),
);

/** Reads `nTensors` entries; their offsets still count from the start of the data section. */
export function readTensorTable(reader: FileReader, nTensors: number): GgufTensor[] {
  const table: GgufTensor[] = [];
  for (let i = 0; i < nTensors; i++) {
    const name = reader.string(`the name of tensor ${i}`);
    const dims = readDims(reader, name);
    const typeNumber = reader.u32(`the type of tensor ${name}`);
    const type = typeNames.get(typeNumber);
    if (type === undefined) {
      throw reader.fail(
        `expected tensor ${name} of type ${tensorTypeNames.join(", ")}, found type number ${typeNumber}`,
      );
    }
    const offset = reader.u64(`the offset of tensor ${name}`);
    table.push({ name, type, dims, offset, nBytes: sizeOf(reader, name, type, dims) });
  }
  return table;
}

/** Moves offsets to file offsets and refuses tensors that are out of range, misaligned, overlapping or named twice. */
export function checkTensors(
  reader: FileReader,
  table: readonly GgufTensor[],
  dataStart: number,
  alignment: number,
): Map<string, GgufTensor> {
  const tensors = new Map<string, GgufTensor>();
  for (const entry of table) {
    const tensor = { ...entry, offset: entry.offset + dataStart };
    if (entry.offset % alignment !== 0) {
      throw reader.fail(
        `expected tensor ${entry.name} at a multiple of ${alignment} bytes, found ${entry.offset}`,
      );
    }
    if (tensor.offset + tensor.nBytes > reader.size) {
      throw reader.fail(
        `expected tensor ${entry.name} to end within ${reader.size} bytes, found its end at ${tensor.offset + tensor.nBytes}: truncated?`,
      );
    }
    if (tensors.has(entry.name))
      throw reader.fail(`expected each tensor once, found ${entry.name} twice`);
    tensors.set(entry.name, tensor);
  }
  refuseOverlap(reader, [...tensors.values()]);
  return tensors;
}

function readDims(reader: FileReader, name: string): number[] {
  const nDims = reader.u32(`the dimension count of tensor ${name}`);
  if (nDims < 1 || nDims > MAX_DIMS) {
    throw reader.fail(`expected tensor ${name} with 1 to ${MAX_DIMS} dimensions, found ${nDims}`);
  }
  const dims: number[] = [];
  for (let d = 0; d < nDims; d++) {
    const dim = reader.u64(`dimension ${d} of tensor ${name}`);
    if (dim < 1 || dim > 0x7fffffff) {
      throw reader.fail(
        `expected dimension ${d} of tensor ${name} from 1 to 2^31 - 1, found ${dim}`,
      );
    }
    dims.push(dim);
  }
  return dims;
}

function sizeOf(
  reader: FileReader,
  name: string,
  type: TensorTypeName,
  dims: readonly number[],
): number {
  const block = blockLayout[type];
  const columns = dims[0] ?? 0;
  if (columns % block.values !== 0) {
    throw reader.fail(
      `expected rows of ${type} tensor ${name} to be a multiple of ${block.values}, found ${columns}`,
    );
  }
  const nBytes = (dims.reduce((product, dim) => product * dim, 1) / block.values) * block.bytes;
  if (nBytes > reader.size) {
    throw reader.fail(
      `expected tensor ${name} to fit the file of ${reader.size} bytes, found ${nBytes} bytes`,
    );
  }
  return nBytes;
}

function refuseOverlap(reader: FileReader, tensors: GgufTensor[]): void {
  const byOffset = tensors.sort((a, b) => a.offset - b.offset);
  for (const [i, tensor] of byOffset.entries()) {
    const previous = byOffset[i - 1];
    if (previous !== undefined && previous.offset + previous.nBytes > tensor.offset) {
      throw reader.fail(
        `expected tensors apart, found ${previous.name} and ${tensor.name} overlapping`,
      );
    }
  }
}
