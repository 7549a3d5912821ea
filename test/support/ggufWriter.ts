/** Writes GGUF files for tests. The inverse of engine/loader, kept apart from it so that a mistake does not cancel out. */
import { writeFileSync } from "node:fs";

export type WriterValue =
  | { u32: number }
  | { f32: number }
  | { bool: boolean }
  | { string: string }
  | { strings: readonly string[] }
  | { i32s: readonly number[] };

export interface WriterTensor {
  name: string;
  /** 0 F32, 1 F16, 2 Q4_0, 8 Q8_0. */
  type: number;
  /** Innermost first. */
  dims: readonly number[];
  data: Buffer;
}

const ALIGNMENT = 32;

function u32(value: number): Buffer {
  const buffer = Buffer.alloc(4);
  buffer.writeUInt32LE(value);
  return buffer;
}

function u64(value: number): Buffer {
  const buffer = Buffer.alloc(8);
  buffer.writeBigUInt64LE(BigInt(value));
  return buffer;
}

function f32(value: number): Buffer {
  const buffer = Buffer.alloc(4);
  buffer.writeFloatLE(value);
  return buffer;
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value, "utf8");
  return Buffer.concat([u64(bytes.length), bytes]);
}

function encodeValue(value: WriterValue): Buffer {
  if ("u32" in value) return Buffer.concat([u32(4), u32(value.u32)]);
  if ("f32" in value) return Buffer.concat([u32(6), f32(value.f32)]);
  if ("bool" in value) return Buffer.concat([u32(7), Buffer.from([value.bool ? 1 : 0])]);
  if ("string" in value) return Buffer.concat([u32(8), text(value.string)]);
  if ("strings" in value)
    return Buffer.concat([u32(9), u32(8), u64(value.strings.length), ...value.strings.map(text)]);
  const ints = Buffer.alloc(value.i32s.length * 4);
  for (const [i, n] of value.i32s.entries()) ints.writeInt32LE(n, i * 4);
  return Buffer.concat([u32(9), u32(5), u64(value.i32s.length), ints]);
}

/** The bytes of a GGUF version 3 file. */
export function encodeGguf(
  metadata: Record<string, WriterValue>,
  tensors: readonly WriterTensor[],
): Buffer {
  const keys = Object.entries(metadata);
  const header = [Buffer.from("GGUF"), u32(3), u64(tensors.length), u64(keys.length)];
  for (const [key, value] of keys) header.push(text(key), encodeValue(value));
  const data: Buffer[] = [];
  let offset = 0;
  for (const tensor of tensors) {
    header.push(
      text(tensor.name),
      u32(tensor.dims.length),
      ...tensor.dims.map(u64),
      u32(tensor.type),
      u64(offset),
    );
    const padding = (ALIGNMENT - (tensor.data.length % ALIGNMENT)) % ALIGNMENT;
    data.push(tensor.data, Buffer.alloc(padding));
    offset += tensor.data.length + padding;
  }
  const head = Buffer.concat(header);
  return Buffer.concat([
    head,
    Buffer.alloc((ALIGNMENT - (head.length % ALIGNMENT)) % ALIGNMENT),
    ...data,
  ]);
}

export function writeGguf(
  path: string,
  metadata: Record<string, WriterValue>,
  tensors: readonly WriterTensor[],
): void {
  writeFileSync(path, encodeGguf(metadata, tensors));
}

/** F32 tensor data. */
export function encodeF32(values: Float32Array): Buffer {
  return Buffer.from(values.buffer.slice(values.byteOffset, values.byteOffset + values.byteLength));
}

/** Q4_0 tensor data: blocks of 32 values, an f16 scale, then 16 bytes whose low nibbles are the first half. */
export function encodeQ4(values: Float32Array): Buffer {
  const nBlocks = values.length / 32;
  const out = Buffer.alloc(nBlocks * 18);
  for (let b = 0; b < nBlocks; b++) {
    const block = values.subarray(b * 32, b * 32 + 32);
    const extreme = block.reduce((m, v) => (Math.abs(v) > Math.abs(m) ? v : m), 0);
    const scale = extreme / -8;
    out.writeUInt16LE(toHalf(scale), b * 18);
    for (let i = 0; i < 16; i++) {
      out[b * 18 + 2 + i] = nibble(block[i], scale) | (nibble(block[i + 16], scale) << 4);
    }
  }
  return out;
}

function nibble(value: number | undefined, scale: number): number {
  if (value === undefined || scale === 0) return 8;
  return Math.min(15, Math.max(0, Math.round(value / scale) + 8));
}

/** Nearest half-precision bits of a number in the normal range; smaller ones become zero. */
export function toHalf(value: number): number {
  const sign = value < 0 ? 0x8000 : 0;
  const size = Math.abs(value);
  if (size < 2 ** -14) return sign;
  let exponent = Math.floor(Math.log2(size));
  let mantissa = Math.round((size / 2 ** exponent - 1) * 1024);
  if (mantissa === 1024) {
    exponent++;
    mantissa = 0;
  }
  return sign | ((exponent + 15) << 10) | mantissa;
}
