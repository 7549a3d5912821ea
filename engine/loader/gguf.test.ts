import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { encodeF32, encodeGguf, type WriterTensor } from "../../test/support/ggufWriter.ts";
import { EngineError } from "../base/errors.ts";
import { readGguf } from "./gguf.ts";

const folder = mkdtempSync(join(tmpdir(), "tidepool-gguf-"));
afterAll(() => rmSync(folder, { recursive: true }));

const metadata = {
  "general.architecture": { string: "tidepool" },
  "tidepool.block_count": { u32: 2 },
  "tidepool.rope.freq_base": { f32: 10000 },
  flag: { bool: true },
  words: { strings: ["a", "ö", ""] },
  numbers: { i32s: [1, -2, 3] },
};
const tensors: WriterTensor[] = [
  { name: "a", type: 0, dims: [3, 2], data: encodeF32(new Float32Array([1, 2, 3, 4, 5, 6])) },
  { name: "b", type: 2, dims: [32], data: Buffer.alloc(18, 7) },
];
const good = encodeGguf(metadata, tensors);

function read(bytes: Buffer) {
  const path = join(folder, "case.gguf");
  writeFileSync(path, bytes);
  return readGguf(path);
}

test("reads back keys and tensors", () => {
  const gguf = read(good);
  expect(gguf.metadata.get("tidepool.block_count")).toBe(2);
  expect(gguf.metadata.get("flag")).toBe(true);
  expect(gguf.metadata.get("words")).toEqual(["a", "ö", ""]);
  expect(gguf.metadata.get("numbers")).toEqual(new Int32Array([1, -2, 3]));
  const a = gguf.tensors.get("a");
  expect(a?.dims).toEqual([3, 2]);
  expect(good.readFloatLE((a?.offset ?? 0) + 20)).toBe(6);
  expect(gguf.tensors.get("b")?.nBytes).toBe(18);
});

function patched(edit: (bytes: Buffer) => unknown): Buffer {
  const bytes = Buffer.from(good);
  edit(bytes);
  return bytes;
}

function withCounts(nTensors: bigint, nKeys: bigint): Buffer {
  return patched((bytes) => {
    bytes.writeBigUInt64LE(nTensors, 8);
    bytes.writeBigUInt64LE(nKeys, 16);
  });
}

const offsetOfB = good.lastIndexOf(Buffer.from("b")) + 1 + 4 + 8 + 4;

test.each<[string, Buffer, RegExp]>([
  ["an empty file", Buffer.alloc(0), /expected 4 bytes of the magic number, found 0/],
  ["noise", Buffer.alloc(100, 0x5a), /expected a GGUF file, found the first bytes 0x5a5a5a5a/],
  ["a version of the future", patched((b) => b.writeUInt32LE(9, 4)), /version 2 or 3, found 9/],
  ["a big-endian file", patched((b) => b.writeUInt32BE(3, 4)), /version 2 or 3, found 50331648/],
  ["a huge tensor count", withCounts(2n ** 40n, 6n), /found \d+ before the end/],
  ["a huge key count", withCounts(2n, 2n ** 62n), /below 2\^53/],
  ["a truncated data section", good.subarray(0, good.length - 40), /truncated\?/],
  ["a key that appears twice", encodeTwice(), /"flag" twice/],
  [
    "a tensor beyond the file",
    patched((b) => b.writeBigUInt64LE(1n << 20n, offsetOfB)),
    /end within/,
  ],
  ["overlapping tensors", patched((b) => b.writeBigUInt64LE(0n, offsetOfB)), /overlapping/],
  ["a misaligned tensor", patched((b) => b.writeBigUInt64LE(33n, offsetOfB)), /multiple of 32/],
  [
    "an unknown tensor type",
    patched((b) => b.writeUInt32LE(10, offsetOfB - 4)),
    /found type number 10/,
  ],
  ["an odd alignment", encodeGguf({ "general.alignment": { u32: 33 } }, []), /power of two/],
  [
    "a row that is no multiple of a block",
    encodeGguf({}, [{ name: "q", type: 2, dims: [33], data: Buffer.alloc(32) }]),
    /multiple of 32, found 33/,
  ],
])("refuses %s in one line that names the file", (_name, bytes, expected) => {
  try {
    read(bytes);
  } catch (error) {
    if (!EngineError.is(error, "bad_model")) throw error;
    expect(error.message).toMatch(expected);
    expect(error.message).toContain("case.gguf");
    expect(error.message).not.toContain("\n");
    return;
  }
  expect.unreachable("the file was accepted");
});

function encodeTwice(): Buffer {
  const bytes = encodeGguf({ flag: { u32: 1 }, flbg: { u32: 1 } }, []);
  bytes.write("flag", bytes.indexOf("flbg"));
  return bytes;
}

test("refuses a missing file and a folder", () => {
  expect(() => readGguf(join(folder, "none.gguf"))).toThrow(
    /none\.gguf: expected a readable model file \(ENOENT\)/,
  );
  expect(() => readGguf(folder)).toThrow(/found something else/);
});

test("any damage to the header gives a file that is read or refused, with little memory", () => {
  let seed = 1;
  const random = (n: number) => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    return Math.floor((seed / 2 ** 32) * n);
  };
  const headerBytes = good.length - 64;
  const before = process.memoryUsage().arrayBuffers;
  let refused = 0;
  for (let i = 0; i < 1500; i++) {
    const bytes = Buffer.from(random(8) === 0 ? good.subarray(0, random(good.length)) : good);
    for (let edits = 1 + random(3); edits > 0 && bytes.length > 0; edits--) {
      bytes[random(Math.min(headerBytes, bytes.length))] = random(4) === 0 ? 0xff : random(256);
    }
    try {
      read(bytes);
    } catch (error) {
      refused++;
      expect(EngineError.is(error, "bad_model"), String(error)).toBe(true);
    }
  }
  expect(refused).toBeGreaterThan(500);
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(200e6);
});
