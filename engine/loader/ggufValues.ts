/** Metadata values of a GGUF file. Arrays of numbers become typed arrays, so they take no more memory than in the file. */
import type { FileReader } from "./fileReader.ts";

export type GgufNumbers =
  | Uint8Array
  | Int8Array
  | Uint16Array
  | Int16Array
  | Uint32Array
  | Int32Array
  | Float32Array
  | Float64Array;
export type GgufValue = number | boolean | string | GgufNumbers | readonly string[];

/** GGUF's metadata value types. */
export const valueType = {
  u8: 0,
  i8: 1,
  u16: 2,
  i16: 3,
  u32: 4,
  i32: 5,
  f32: 6,
  bool: 7,
  string: 8,
  array: 9,
  u64: 10,
  i64: 11,
  f64: 12,
} as const;

interface NumberType {
  readonly bytes: number;
  /** Reads one value from a buffer of `bytes` bytes. */
  read(buffer: Buffer, at: number): number;
  array(length: number): GgufNumbers;
}

/** 64-bit integers in arrays become doubles: the same size, exact below 2^53. */
const numberTypes = new Map<number, NumberType>([
  [valueType.u8, { bytes: 1, read: (b, at) => b.readUInt8(at), array: (n) => new Uint8Array(n) }],
  [valueType.i8, { bytes: 1, read: (b, at) => b.readInt8(at), array: (n) => new Int8Array(n) }],
  [
    valueType.u16,
    { bytes: 2, read: (b, at) => b.readUInt16LE(at), array: (n) => new Uint16Array(n) },
  ],
  [
    valueType.i16,
    { bytes: 2, read: (b, at) => b.readInt16LE(at), array: (n) => new Int16Array(n) },
  ],
  [
    valueType.u32,
    { bytes: 4, read: (b, at) => b.readUInt32LE(at), array: (n) => new Uint32Array(n) },
  ],
  [
    valueType.i32,
    { bytes: 4, read: (b, at) => b.readInt32LE(at), array: (n) => new Int32Array(n) },
  ],
  [
    valueType.f32,
    { bytes: 4, read: (b, at) => b.readFloatLE(at), array: (n) => new Float32Array(n) },
  ],
  [valueType.bool, { bytes: 1, read: (b, at) => b.readUInt8(at), array: (n) => new Uint8Array(n) }],
  [
    valueType.u64,
    { bytes: 8, read: (b, at) => Number(b.readBigUInt64LE(at)), array: (n) => new Float64Array(n) },
  ],
  [
    valueType.i64,
    { bytes: 8, read: (b, at) => Number(b.readBigInt64LE(at)), array: (n) => new Float64Array(n) },
  ],
  [
    valueType.f64,
    { bytes: 8, read: (b, at) => b.readDoubleLE(at), array: (n) => new Float64Array(n) },
  ],
]);

/** Reads the value of metadata key `key`: its type, then its data. Throws `bad_model` on unknown types and short files. */
export function readValue(reader: FileReader, key: string): GgufValue {
  const type = reader.u32(`the type of ${key}`);
  if (type === valueType.string) return reader.string(key);
  if (type === valueType.array) return readArray(reader, key);
  const scalar = numberTypes.get(type);
  if (scalar === undefined)
    throw reader.fail(`expected a value type from 0 to 12 for ${key}, found ${type}`);
  const value = scalar.read(reader.take(scalar.bytes, key), 0);
  if (type !== valueType.bool) return value;
  if (value > 1) throw reader.fail(`expected 0 or 1 for the boolean ${key}, found ${value}`);
  return value === 1;
}

function readArray(reader: FileReader, key: string): GgufNumbers | readonly string[] {
  const type = reader.u32(`the element type of ${key}`);
  const length = reader.u64(`the length of ${key}`);
  if (type === valueType.string) {
    reader.need(length * 8, `${length} strings of ${key}`);
    const strings: string[] = [];
    for (let i = 0; i < length; i++) strings.push(reader.string(key));
    return strings;
  }
  const element = numberTypes.get(type);
  if (element === undefined) {
    throw reader.fail(
      `expected an array of numbers or strings for ${key}, found element type ${type}`,
    );
  }
  const bytes = reader.take(length * element.bytes, `${length} elements of ${key}`);
  const values = element.array(length);
  for (let i = 0; i < length; i++) values[i] = element.read(bytes, i * element.bytes);
  return values;
}
