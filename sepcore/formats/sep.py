"""Write and open .sep files: one network with its preprocessing and labels, whose tensors are mapped, not read.

Nothing here knows kernels or plans, and nothing a file says is executed.

========================  ==========================================================================
bytes                     content; integers are little-endian
========================  ==========================================================================
0 to 8                    ``SEPCORE\\0``
8 to 12                   version of the format
12 to 16                  length m of the manifest
16 to 24                  length of the file
24 to 56                  SHA-256 of bytes 0 to 24 and the manifest
56 to 56 + m              the manifest: JSON, see sep_manifest
the next multiple of 64   the tensors, little-endian, each at the next multiple of 64; zeros between
========================  ==========================================================================

The manifest holds a CRC-32 of each tensor. So every byte is covered, and opening a file stays a matter of milliseconds.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import secrets
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from sepcore.errors import GraphError, UnsupportedModelError
from sepcore.formats.pickle_vm import shown
from sepcore.formats.sep_manifest import Packed, Tensor, decoded, encoded
from sepcore.formats.source import Source
from sepcore.ir.ops import custom
from sepcore.ir.verify import verify

MAGIC = b"SEPCORE\0"
VERSION = 1
MAX_MANIFEST_BYTES = 8 << 20
"""EfficientNet-B0 takes about 100 kB, the names of 21 841 classes less than 1 MB."""
ALIGNMENT = 64

_HEAD = struct.Struct("<8sIIQ")
_DIGEST_BYTES = 32
_MANIFEST_AT = _HEAD.size + _DIGEST_BYTES


def read_sep(path: str | os.PathLike[str]) -> Packed:
    """Open a .sep file.

    The constants of the graph are read-only views of the mapped file: they share memory with every process that has it
    open. Replace such a file by renaming another over it, as ``write_sep`` does; cutting it short while it is open
    kills its readers (SIGBUS).

    Raises
    ------
    FormatError : the file is broken or hostile, its checksums do not match, its graph breaks a rule, or it was written
        by a newer sepcore in a format that this one does not know.
    UnsupportedModelError : it uses operators of a user's that are not registered; names them all.
    OSError : the file is missing or may not be read.
    """
    with Source(path) as source:
        manifest = _read_manifest(source)
        packed, tensors = decoded(source.path, manifest)
        manifest_end = _MANIFEST_AT + len(manifest)
        _check_layout(source, tensors, manifest_end)
        content = _mapped(source)
        constants = {}
        start, end = _aligned(manifest_end), manifest_end
        for tensor in tensors:
            _check_zeros(source, content, end, start + tensor.offset)
            constants[tensor.name] = _array(source, content, start + tensor.offset, tensor)
            end = start + tensor.offset + tensor.bytes
        graph = packed.graph.with_(constants=MappingProxyType(constants))
        if missing := dict.fromkeys(custom.advice(node.op) for node in graph.nodes if custom.advice(node.op)):
            raise UnsupportedModelError(source.path, [f"expected {advice}" for advice in missing])
        try:
            verify(graph)
        except GraphError as error:
            raise source.error("graph", "a graph that keeps the rules", str(error)[:500]) from None
    return replace(packed, graph=graph)


def write_sep(path: str | os.PathLike[str], packed: Packed) -> None:
    """Write a .sep file: under a temporary name beside it, read back, then renamed over what is there.

    Raises
    ------
    GraphError : the graph breaks a rule, or holds what the format has no form for.
    FormatError : the network is larger than the format allows.
    OSError : the folder cannot be written to, or is full.
    """
    verify(packed.graph)
    arrays = {name: _little_endian(array) for name, array in packed.graph.constants.items()}
    tensors = _laid_out(arrays)
    manifest = encoded(packed, tensors)
    start = _aligned(_MANIFEST_AT + len(manifest))
    size = start + tensors[-1].offset + tensors[-1].bytes if tensors else _MANIFEST_AT + len(manifest)
    head = _HEAD.pack(MAGIC, VERSION, len(manifest), size)
    with _renamed_when_done(Path(path)) as (temporary, stream):
        stream.write(head + hashlib.sha256(head + manifest).digest() + manifest)
        for tensor, array in zip(tensors, arrays.values()):
            stream.write(bytes(start + tensor.offset - stream.tell()))
            stream.write(array.reshape(-1).view(np.uint8).data)
        stream.flush()
        os.fsync(stream.fileno())
        read_sep(temporary)


def _aligned(position: int) -> int:
    return -(-position // ALIGNMENT) * ALIGNMENT


def _read_manifest(source: Source) -> bytes:
    """The manifest's bytes, once the head and its checksum are right."""
    magic, version = struct.unpack("<8sI", source.read(0, 12))
    if magic != MAGIC:
        raise source.error("byte 0", "SEPCORE", shown(magic.decode("latin-1")))
    if version > VERSION:
        raise source.error(
            "byte 8", f"format version {VERSION} or older", f"{version}, of a newer sepcore; update sepcore"
        )
    if version < 1:
        raise source.error("byte 8", "a format version", f"{version}")
    head = source.read(0, _HEAD.size)
    _, _, length, size = _HEAD.unpack(head)
    if length > MAX_MANIFEST_BYTES:
        raise source.error("byte 12", f"a manifest of at most {MAX_MANIFEST_BYTES} bytes", str(length))
    if size != source.size:
        raise source.error("byte 16", f"a file of {size} bytes", f"{source.size} bytes (cut off, or appended to)")
    digest = source.read(_HEAD.size, _DIGEST_BYTES)
    manifest = source.read(_MANIFEST_AT, length)
    if hashlib.sha256(head + manifest).digest() != digest:
        raise source.error("manifest", "content with the SHA-256 written at byte 24", "other content (damaged)")
    return manifest


def _check_layout(source: Source, tensors: Sequence[Tensor], manifest_end: int) -> None:
    """Each tensor lies where the one before it lets it, and the last ends with the file: no overlap, gap or rest."""
    names: set[str] = set()
    start, end = _aligned(manifest_end), manifest_end
    for tensor in tensors:
        where = f"tensor {shown(tensor.name)}"
        if tensor.name in names:
            raise source.error(where, "a name of its own", "a second tensor of that name")
        names.add(tensor.name)
        if start + tensor.offset != _aligned(end):
            raise source.error(where, f"offset {_aligned(end) - start}", str(tensor.offset))
        end = start + tensor.offset + tensor.bytes
        if end > source.size:
            raise source.error(where, f"{tensor.bytes} bytes", f"the file's end {end - source.size} bytes earlier")
    if end != source.size:
        raise source.error(f"byte {end}", "the file's end", f"{source.size - end} more bytes")


def _mapped(source: Source) -> NDArray[np.uint8]:
    """The file's bytes, mapped read-only; the mapping lives as long as any view of it."""
    with open(source.path, "rb", buffering=0) as file:
        if os.fstat(file.fileno()).st_size != source.size:
            raise source.error("file", "one that does not change while it is opened", "another size")
        mapping = mmap.mmap(file.fileno(), source.size, access=mmap.ACCESS_READ)
    content: NDArray[np.uint8] = np.frombuffer(mapping, np.uint8)
    return content


def _check_zeros(source: Source, content: NDArray[np.uint8], first: int, last: int) -> None:
    if content[first:last].any():
        raise source.error(f"byte {first}", f"zeros up to byte {last}", "other bytes (damaged)")


def _array(source: Source, content: NDArray[np.uint8], first: int, tensor: Tensor) -> NDArray[Any]:
    """A tensor as a view of the mapped file, its checksum checked."""
    flat = content[first : first + tensor.bytes]
    where = f"tensor {shown(tensor.name)}"
    if zlib.crc32(flat.data) != tensor.crc32:
        raise source.error(where, "content with the CRC-32 that the manifest gives", "other content (damaged)")
    if tensor.dtype == "bool" and (flat > 1).any():
        raise source.error(where, "0 or 1 in each byte of a bool", "other bytes")
    elements: NDArray[Any] = flat.view(np.dtype(tensor.dtype).newbyteorder("<"))
    return elements.reshape(tensor.shape)


def _little_endian(array: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(array, array.dtype.newbyteorder("<"), order="C")


def _laid_out(arrays: dict[str, NDArray[Any]]) -> list[Tensor]:
    """Where each array goes, in order."""
    tensors = []
    position = 0
    for name, array in arrays.items():
        crc32 = zlib.crc32(array.reshape(-1).view(np.uint8).data)
        tensors.append(Tensor(name, array.dtype.name, array.shape, _aligned(position), crc32))
        position = _aligned(position) + array.nbytes
    return tensors


@contextmanager
def _renamed_when_done(path: Path) -> Iterator[tuple[Path, IO[bytes]]]:
    """A new file beside ``path`` that takes its name at the end; after an error nothing of it stays."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with open(temporary, "xb") as stream:
            yield temporary, stream
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
