"""Write PyTorch's two checkpoint layouts and safetensors from their formats alone: no torch, and nothing of sepcore.

Nothing here checks anything: tests write broken and hostile files with it too.
"""

from __future__ import annotations

import json
import struct
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

STORAGE_TYPES = {
    "float64": "DoubleStorage",
    "float32": "FloatStorage",
    "float16": "HalfStorage",
    "int64": "LongStorage",
    "int32": "IntStorage",
    "int16": "ShortStorage",
    "int8": "CharStorage",
    "uint8": "ByteStorage",
    "bool": "BoolStorage",
    "complex64": "ComplexFloatStorage",
}


@dataclass(frozen=True)
class Raw:
    """Opcodes to put into a pickle as they are; they must push one value."""

    opcodes: bytes


@dataclass(frozen=True)
class Global:
    module: str
    name: str


@dataclass(frozen=True)
class Call:
    """``function(*arguments)``, then optionally ``__setstate__(state)``."""

    function: Global
    arguments: tuple[object, ...]
    state: object = None


@dataclass(frozen=True)
class PersistentId:
    value: object


@dataclass(frozen=True)
class Stored:
    """Elements of one storage, as bytes."""

    kind: str
    key: str
    raw: bytes
    numel: int
    location: str = "cpu"

    @classmethod
    def of(cls, array: NDArray[Any], key: str, location: str = "cpu") -> Stored:
        return cls(STORAGE_TYPES[array.dtype.name], key, array.tobytes(), array.size, location)


def opcodes(value: object) -> bytes:
    """Return protocol-2 opcodes that push ``value``."""
    match value:
        case Raw(raw):
            return raw
        case None:
            return b"N"
        case bool():
            return b"\x88" if value else b"\x89"
        case int() if 0 <= value < 256:
            return b"K" + bytes([value])
        case int() if -(1 << 31) <= value < 1 << 31:
            return b"J" + struct.pack("<i", value)
        case int():
            raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
            return b"\x8a" + bytes([len(raw)]) + raw
        case float():
            return b"G" + struct.pack(">d", value)
        case str():
            text = value.encode()
            return b"X" + struct.pack("<I", len(text)) + text
        case Global(module, name):
            return f"c{module}\n{name}\n".encode()
        case PersistentId(inner):
            return opcodes(inner) + b"Q"
        case Call(function, arguments, state):
            built = opcodes(function) + opcodes(arguments) + b"R"
            return built if state is None else built + opcodes(state) + b"b"
    return _container_opcodes(value)


def _container_opcodes(value: object) -> bytes:
    match value:
        case tuple():
            return b"(" + b"".join(map(opcodes, value)) + b"t"
        case list():
            return b"](" + b"".join(map(opcodes, value)) + b"e"
        case dict():
            new = b"ccollections\nOrderedDict\n)R" if isinstance(value, OrderedDict) else b"}"
            return new + b"(" + b"".join(opcodes(key) + opcodes(item) for key, item in value.items()) + b"u"
    raise TypeError(f"no opcodes for {type(value).__name__}")


def pickled(value: object) -> bytes:
    return b"\x80\x02" + opcodes(value) + b"."


def storage_id(stored: Stored, *, legacy: bool = False) -> PersistentId:
    fields = ("storage", Global("torch", stored.kind), stored.key, stored.location, stored.numel)
    return PersistentId((*fields, None) if legacy else fields)


def tensor(
    stored: Stored | PersistentId,
    shape: Sequence[object],
    strides: Sequence[object] | None = None,
    offset: object = 0,
) -> Call:
    """Return ``_rebuild_tensor_v2`` on a storage; strides default to row-major ones."""
    if strides is None:
        strides = [int(np.prod(shape[axis + 1 :], dtype=np.int64)) for axis in range(len(shape))]  # type: ignore[arg-type]
    storage = stored if isinstance(stored, PersistentId) else storage_id(stored)
    arguments = (storage, offset, tuple(shape), tuple(strides), False, OrderedDict())
    return Call(Global("torch._utils", "_rebuild_tensor_v2"), arguments)


def parameter(inner: Call) -> Call:
    return Call(Global("torch._utils", "_rebuild_parameter"), (inner, True, OrderedDict()))


@dataclass
class ZipEntry:
    """One entry; every field that a hostile archive may set apart from the truth can be set."""

    name: str
    content: bytes
    method: int = 0
    flags: int = 0x800
    size: int | None = None
    local_name: str | None = None
    header: int | None = None
    central_extra: bytes = b""
    local_extra: bytes = b""
    written_at: int = field(default=-1, init=False)


def zip_archive(entries: Sequence[ZipEntry], *, count: int | None = None, zip64_end: bool = False) -> bytes:
    """Return an archive of stored entries, each content aligned to 64 bytes as PyTorch does."""
    body = b""
    directory = b""
    for entry in entries:
        entry.written_at = len(body)
        size = len(entry.content) if entry.size is None else entry.size
        local_name = (entry.name if entry.local_name is None else entry.local_name).encode()
        padding = -(len(body) + 30 + len(local_name) + len(entry.local_extra) + 4) % 64
        local_extra = entry.local_extra + struct.pack("<2sH", b"FB", padding) + b"Z" * padding
        sizes = (0, min(size, 0xFFFFFFFF), min(size, 0xFFFFFFFF))
        fixed = (entry.flags, entry.method, 0, 0, *sizes)
        body += struct.pack("<4sHHHHHIIIHH", b"PK\3\4", 0, *fixed, len(local_name), len(local_extra))
        body += local_name + local_extra + entry.content
        header = entry.written_at if entry.header is None else entry.header
        name = entry.name.encode("utf-8", "surrogateescape")
        lengths = (len(name), len(entry.central_extra), 0, 0, 0, 0, header)
        directory += struct.pack("<4sHHHHHHIIIHHHHHII", b"PK\1\2", 0, 0, *fixed, *lengths) + name + entry.central_extra
    count = len(entries) if count is None else count
    end = b""
    if zip64_end:
        numbers = (count, count, len(directory), len(body))
        end += struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 0, 45, 0, 0, *numbers)
        end += struct.pack("<4sIQI", b"PK\6\7", 0, len(body) + len(directory), 1)
    short = min(count, 0xFFFF)
    end += struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, short, short, len(directory), len(body), 0)
    return body + directory + end


def zip_entries(value: object, storages: Sequence[Stored], *, root: str = "archive") -> list[ZipEntry]:
    return [
        ZipEntry(f"{root}/data.pkl", value.opcodes if isinstance(value, Raw) else pickled(value)),
        ZipEntry(f"{root}/byteorder", b"little"),
        *(ZipEntry(f"{root}/data/{stored.key}", stored.raw) for stored in storages),
        ZipEntry(f"{root}/version", b"3\n"),
    ]


def zip_file(value: object, storages: Sequence[Stored] = ()) -> bytes:
    """Return a checkpoint in the zip layout; a ``Raw`` value is the whole pickle."""
    return zip_archive(zip_entries(value, storages))


LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_SYSTEM: dict[str, object] = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"int": 4}}


def legacy_parts(value: object, storages: Sequence[Stored] = (), **replaced: object) -> list[bytes]:
    """Return the parts of a legacy stream in order: five pickles, then the storages."""
    values = {"magic": LEGACY_MAGIC, "version": 1001, "system": LEGACY_SYSTEM, "value": value}
    values |= {"keys": [stored.key for stored in storages], **replaced}
    pickles = [item.opcodes if isinstance(item, Raw) else pickled(item) for item in values.values()]
    return [*pickles, *(struct.pack("<q", stored.numel) + stored.raw for stored in storages)]


def legacy_file(value: object, storages: Sequence[Stored] = (), **replaced: object) -> bytes:
    """Return a checkpoint in the legacy layout; tensors in ``value`` are made with ``storage_id(…, legacy=True)``."""
    return b"".join(legacy_parts(value, storages, **replaced))


def safetensors_file(header: Mapping[str, object] | bytes, content: bytes = b"", *, size: int | None = None) -> bytes:
    """Return a safetensors file; a header given as bytes is written as it is, ``size`` overrides its length field."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if size is None else size) + raw + content
