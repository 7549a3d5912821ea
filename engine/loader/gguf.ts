/**
 * The header of a GGUF file (versions 2 and 3): metadata and tensor table, checked against the size of the file.
 * Tensor data is never read here; the backend maps it. Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
 */
import { createHash } from "node:crypto";
import { FileReader } from "./fileReader.ts";
import { checkTensors, type GgufTensor, readTensorTable } from "./ggufTensors.ts";
import { type GgufValue, readValue } from "./ggufValues.ts";

const MAGIC = 0x46554747;
const MAX_KEY_BYTES = 65_535;

export interface GgufFile {
  readonly path: string;
  readonly fileBytes: number;
  readonly metadata: ReadonlyMap<string, GgufValue>;
  readonly tensors: ReadonlyMap<string, GgufTensor>;
  /** Hash over metadata, tensor table and size: tells one model from another in cache keys. */
  readonly fingerprint: string;
}

/** Reads and checks the header of the file at `path`. Throws `bad_model` with one line when anything does not fit. */
export function readGguf(path: string): GgufFile {
  const reader = new FileReader(path);
  try {
    readVersion(reader);
    const nTensors = reader.u64("the tensor count");
    const nKeys = reader.u64("the metadata count");
    // A key takes at least 8 + 4 + 1 bytes and a tensor 24: a larger count cannot be true.
    reader.need(nKeys * 13 + nTensors * 24, `${nKeys} metadata entries and ${nTensors} tensors`);
    const metadata = readMetadata(reader, nKeys);
    const table = readTensorTable(reader, nTensors);
    const alignment = readAlignment(reader, metadata);
    const dataStart = Math.ceil(reader.offset / alignment) * alignment;
    const tensors = checkTensors(reader, table, dataStart, alignment);
    return {
      path,
      fileBytes: reader.size,
      metadata,
      tensors,
      fingerprint: fingerprintOf(reader.size, metadata, tensors),
    };
  } finally {
    reader.close();
  }
}

function readVersion(reader: FileReader): void {
  const magic = reader.u32("the magic number");
  if (magic !== MAGIC)
    throw reader.fail(`expected a GGUF file, found the first bytes 0x${magic.toString(16)}`);
  const version = reader.u32("the version");
  if (version !== 2 && version !== 3)
    throw reader.fail(`expected GGUF version 2 or 3, found ${version}`);
}

function readMetadata(reader: FileReader, nKeys: number): Map<string, GgufValue> {
  const metadata = new Map<string, GgufValue>();
  for (let i = 0; i < nKeys; i++) {
    const key = reader.string(`metadata key ${i}`);
    if (key.length === 0 || key.length > MAX_KEY_BYTES) {
      throw reader.fail(
        `expected a metadata key of 1 to ${MAX_KEY_BYTES} bytes, found ${key.length}`,
      );
    }
    if (metadata.has(key))
      throw reader.fail(`expected each metadata key once, found "${key}" twice`);
    metadata.set(key, readValue(reader, key));
  }
  return metadata;
}

function readAlignment(reader: FileReader, metadata: ReadonlyMap<string, GgufValue>): number {
  const value = metadata.get("general.alignment") ?? 32;
  if (typeof value !== "number" || value < 8 || value > 65_536 || (value & (value - 1)) !== 0) {
    throw reader.fail(
      `expected general.alignment to be a power of two from 8 to 65536, found ${String(value)}`,
    );
  }
  return value;
}

function fingerprintOf(
  size: number,
  metadata: ReadonlyMap<string, GgufValue>,
  tensors: ReadonlyMap<string, GgufTensor>,
): string {
  const hash = createHash("sha256").update(String(size));
  for (const [key, value] of metadata) {
    hash.update(key);
    if (typeof value === "object") hash.update(String(value.length));
    else hash.update(String(value));
  }
  for (const tensor of tensors.values())
    hash.update(`${tensor.name} ${tensor.type} ${tensor.offset}`);
  return hash.digest("hex").slice(0, 32);
}
