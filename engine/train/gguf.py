"""Reading and writing GGUF version 3: only what a model file of ours needs (F32, Q4_0; scalars, strings, string lists)."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from quant import pack_q4_0, unpack_q4_0

ALIGNMENT = 32
F32, Q4_0 = 0, 2
U32, I32, FLOAT, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9
Value = int | float | bool | str | list[str] | list[int]


def _string(text: str) -> bytes:
    data = text.encode("utf-8")
    return struct.pack("<Q", len(data)) + data


def _value(value: Value) -> bytes:
    if isinstance(value, bool):
        return struct.pack("<I?", BOOL, value)
    if isinstance(value, int):
        return struct.pack("<II", U32, value)
    if isinstance(value, float):
        return struct.pack("<If", FLOAT, value)
    if isinstance(value, str):
        return struct.pack("<I", STRING) + _string(value)
    if value and isinstance(value[0], str):
        return struct.pack("<IIQ", ARRAY, STRING, len(value)) + b"".join(_string(v) for v in value)
    return struct.pack("<IIQ", ARRAY, I32, len(value)) + struct.pack(f"<{len(value)}i", *value)


def write(path: Path, metadata: dict[str, Value], tensors: dict[str, tuple[np.ndarray, int]]) -> None:
    """tensors: name -> (f32 array of any rank, type). Dimensions are stored innermost first."""
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(metadata))
    head += b"".join(_string(k) + _value(v) for k, v in metadata.items())
    blobs, offset = [], 0
    for name, (array, kind) in tensors.items():
        data = pack_q4_0(array) if kind == Q4_0 else np.ascontiguousarray(array, np.float32).tobytes()
        dims = array.shape[::-1]
        head += _string(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset)
        data += b"\0" * (-len(data) % ALIGNMENT)
        blobs.append(data)
        offset += len(data)
    head += b"\0" * (-len(head) % ALIGNMENT)
    path.write_bytes(head + b"".join(blobs))


class _Cursor:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, form: str) -> tuple:
        out = struct.unpack_from("<" + form, self.data, self.at)
        self.at += struct.calcsize("<" + form)
        return out

    def string(self) -> str:
        (n,) = self.take("Q")
        self.at += n
        return self.data[self.at - n : self.at].decode("utf-8")

    def value(self, kind: int) -> Value:
        if kind == STRING:
            return self.string()
        if kind == ARRAY:
            item, count = self.take("IQ")
            return [self.value(item) for _ in range(count)]  # type: ignore[return-value]
        return self.take({U32: "I", I32: "i", FLOAT: "f", BOOL: "?"}[kind])[0]


def read(path: Path) -> tuple[dict[str, Value], dict[str, np.ndarray]]:
    """Metadata, and every tensor as dequantised f32."""
    cursor = _Cursor(path.read_bytes())
    magic, version, n_tensors, n_values = cursor.take("4sIQQ")
    if magic != b"GGUF" or version != 3:
        raise ValueError(f"{path}: expected GGUF version 3, found {magic!r} version {version}")
    metadata = {}
    for _ in range(n_values):
        key = cursor.string()
        metadata[key] = cursor.value(cursor.take("I")[0])
    infos = []
    for _ in range(n_tensors):
        name = cursor.string()
        (rank,) = cursor.take("I")
        infos.append((name, cursor.take(f"{rank}Q")[::-1], *cursor.take("IQ")))
    base = -(-cursor.at // ALIGNMENT) * ALIGNMENT
    tensors = {}
    for name, shape, kind, offset in infos:
        count = int(np.prod(shape))
        size = count // 32 * 18 if kind == Q4_0 else count * 4
        data = cursor.data[base + offset : base + offset + size]
        tensors[name] = unpack_q4_0(data, shape) if kind == Q4_0 else np.frombuffer(data, np.float32).reshape(shape)
    return metadata, tensors
