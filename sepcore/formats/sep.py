"""Write and open .sep files: a network with its preprocessing and labels, whose tensors are mapped, not read.

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
multiples of 4096         packed weights, one level after another: blocks, each at the next multiple of
                          64, then zeros up to a multiple of 64 and 4096 more; zeros between
========================  ==========================================================================

The manifest holds a CRC-32 of each tensor and block, and all else is known to be zero: every byte is covered. Packed
weights are what kernels read, made from the tensors beforehand. The reader of a file cannot tell whether they are: who
uses them must compare.
"""

from __future__ import annotations

import mmap
import os
import secrets
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from sepcore.errors import FormatError, GraphError, UnsupportedModelError
from sepcore.formats.pickle_vm import shown
from sepcore.formats.sep_head import MANIFEST_AT, read_manifest, signed
from sepcore.formats.sep_manifest import (
    SPARE_BYTES,
    Block,
    Level,
    PackedWeights,
    SepNetwork,
    Tensor,
    decoded,
    encoded,
)
from sepcore.formats.source import Source
from sepcore.ir.ops import custom
from sepcore.ir.verify import verify

ALIGNMENT = 64
PAGE_BYTES = 4096


def read_sep(path: str | os.PathLike[str]) -> SepNetwork:
    """Open a .sep file.

    The constants of the graph and the packed weights are read-only views of the mapped file: they share memory with
    every process that has it open. Replace such a file by renaming another over it, as ``write_sep`` does; cutting it
    short while it is open kills its readers (SIGBUS).

    Raises
    ------
    FormatError : the file is broken or hostile, its checksums do not match, its graph breaks a rule, or it was written
        in a format that this version of sepcore does not know.
    UnsupportedModelError : it uses operators of a user's that are not registered; names them all.
    OSError : the file is missing or may not be read.
    """
    with Source(path) as source:
        manifest = read_manifest(source)[0]
        network, tensors, levels = decoded(source.path, manifest)
        walk = _Walk(source, MANIFEST_AT + len(manifest))
        constants = _constants(walk, tensors)
        packed = {level.isa: _packed(walk, level) for level in levels}
        walk.finish()
        graph = network.graph.with_(constants=MappingProxyType(constants))
        if missing := dict.fromkeys(custom.advice(node.op) for node in graph.nodes if custom.advice(node.op)):
            raise UnsupportedModelError(source.path, [f"expected {advice}" for advice in missing])
        try:
            verify(graph)
        except GraphError as error:
            raise source.error("graph", "a graph that keeps the rules", str(error)[:500]) from None
    return replace(network, graph=graph, packed=MappingProxyType(packed))


def write_sep(path: str | os.PathLike[str], network: SepNetwork) -> None:
    """Write a .sep file: under a temporary name beside it, read back, then renamed over what is there.

    Raises
    ------
    GraphError : the graph breaks a rule, or holds what the format has no form for.
    FormatError : the network is larger than the format allows.
    OSError : the folder cannot be written to, or is full.
    """
    verify(network.graph)
    arrays = [_little_endian(array) for array in network.graph.constants.values()]
    tensors = _laid_out(dict(zip(network.graph.constants, arrays)))
    levels = [_level(isa, packed) for isa, packed in network.packed.items()]
    manifest = encoded(network, tensors, levels)
    manifest_end = MANIFEST_AT + len(manifest)
    pieces = [
        (_aligned(manifest_end) + tensor.offset, array.reshape(-1).view(np.uint8))
        for tensor, array in zip(tensors, arrays)
    ]
    end = pieces[-1][0] + pieces[-1][1].size if pieces else manifest_end
    for packed in network.packed.values():
        pieces.append((_aligned(end, PAGE_BYTES), packed.content))
        end = pieces[-1][0] + packed.content.size
    with _renamed_when_done(Path(path)) as (temporary, stream):
        stream.write(signed(manifest, end))
        for at, content in pieces:
            stream.write(bytes(at - stream.tell()))
            stream.write(content.data)
        stream.flush()
        os.fsync(stream.fileno())
        read_sep(temporary)


def _aligned(position: int, alignment: int = ALIGNMENT) -> int:
    return -(-position // alignment) * alignment


class _Walk:
    """Goes through what lies behind the manifest, piece by piece: no overlap, no gap, and nothing but zeros between."""

    def __init__(self, source: Source, manifest_end: int) -> None:
        self._source, self._end = source, manifest_end
        self._content = _mapped(source)

    def align(self, alignment: int) -> int:
        """Go on to the next multiple of ``alignment``."""
        self._zeros(_aligned(self._end, alignment))
        return self._end

    def take(self, where: str, origin: int, offset: int, size: int, crc32: int) -> NDArray[np.uint8]:
        """The next piece, said to be ``offset`` bytes from ``origin``, as a view of the mapped file."""
        at = _aligned(self._end)
        if origin + offset != at:
            raise self.error(where, f"offset {at - origin}", str(offset))
        if at + size > self._source.size:
            missing = at + size - self._source.size
            raise self.error(where, f"{size} bytes", f"the file's end {missing} bytes earlier")
        self._zeros(at)
        self._end = at + size
        content = self._content[at : self._end]
        if zlib.crc32(content.data) != crc32:
            raise self.error(where, "content with the CRC-32 that the manifest gives", "other content (damaged)")
        return content

    def spare(self, first: int) -> NDArray[np.uint8]:
        """All bytes from ``first`` on, with the zeros that follow packed weights."""
        self._zeros(_aligned(self._end) + SPARE_BYTES)
        return self._content[first : self._end]

    def finish(self) -> None:
        """The file must end here."""
        if self._end != self._source.size:
            raise self.error(f"byte {self._end}", "the file's end", f"{self._source.size - self._end} more bytes")

    def error(self, where: str, expected: str, found: str) -> FormatError:
        """The error that names the file."""
        return self._source.error(where, expected, found)

    def _zeros(self, last: int) -> None:
        if last > self._source.size:
            raise self.error(f"byte {self._end}", f"zeros up to byte {last}", "the file's end")
        if self._content[self._end : last].any():
            raise self.error(f"byte {self._end}", f"zeros up to byte {last}", "other bytes (damaged)")
        self._end = last


def _mapped(source: Source) -> NDArray[np.uint8]:
    """The file's bytes, mapped read-only; the mapping lives as long as any view of it."""
    with open(source.path, "rb", buffering=0) as file:
        if os.fstat(file.fileno()).st_size != source.size:
            raise source.error("file", "one that does not change while it is opened", "another size")
        mapping = mmap.mmap(file.fileno(), source.size, access=mmap.ACCESS_READ)
    content: NDArray[np.uint8] = np.frombuffer(mapping, np.uint8)
    return content


def _constants(walk: _Walk, tensors: Sequence[Tensor]) -> dict[str, NDArray[Any]]:
    constants: dict[str, NDArray[Any]] = {}
    origin = walk.align(ALIGNMENT) if tensors else 0
    for tensor in tensors:
        where = f"tensor {shown(tensor.name)}"
        if tensor.name in constants:
            raise walk.error(where, "a name of its own", "a second tensor of that name")
        flat = walk.take(where, origin, tensor.offset, tensor.bytes, tensor.crc32)
        if tensor.dtype == "bool" and (flat > 1).any():
            raise walk.error(where, "0 or 1 in each byte of a bool", "other bytes")
        constants[tensor.name] = flat.view(np.dtype(tensor.dtype).newbyteorder("<")).reshape(tensor.shape)
    return constants


def _packed(walk: _Walk, level: Level) -> PackedWeights:
    where = f"packed weights for {level.isa}"
    blocks: dict[str, tuple[int, int]] = {}
    origin = walk.align(PAGE_BYTES)
    for block in level.blocks:
        if block.key in blocks:
            raise walk.error(f"{where}, {block.key}", "a key of its own", "a second block of that key")
        walk.take(f"{where}, {block.key}", origin, block.offset, block.bytes, block.crc32)
        blocks[block.key] = (block.offset, block.bytes)
    return PackedWeights(level.shapes, walk.spare(origin), MappingProxyType(blocks), origin)


def _level(isa: str, packed: PackedWeights) -> Level:
    """Where packed weights go."""
    blocks = [
        Block(key, offset, size, zlib.crc32(packed.content[offset : offset + size].data))
        for key, (offset, size) in packed.blocks.items()
    ]
    return Level(isa, packed.shapes, tuple(blocks))


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
