"""Runs a frozen network: a folder of packed weights, programs and machine code that ``sepcore freeze`` wrote.

It must not plan or compile, and needs NumPy alone: this file and all that it imports are copied into every such folder.
Nothing is used before its length and CRC-32 are right, which tells damage; who can write the folder can also write the
Python in it, so the content is then taken as it is.
"""

from __future__ import annotations

import json
import mmap
import os
import sys
import zlib
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sepcore.compile.code import Code, place
from sepcore.errors import CpuError, FormatError, InputError, OptionError
from sepcore.kernels import isa as isas
from sepcore.plan.pages import SPARE_BYTES, anonymous_memory
from sepcore.runtime.inputs import address, check_shape
from sepcore.runtime.linked import Linked, from_bytes
from sepcore.runtime.pool import shared_pool
from sepcore.runtime.prepared import Prepared
from sepcore.runtime.runner import Runner
from sepcore.runtime.threads import num_threads

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sepcore.runtime.runner import Array

FORMAT = 3
MANIFEST = "network.json"
WEIGHTS = "weights.bin"
COPY_WORDS = 14
"""Integers of a copy of float32 values from the weights file: where to, where from, then the length, the stride there
and the stride here of each of four nested loops."""


class FrozenTensor(NamedTuple):
    """An input or output: its name, and its shape, in which "n" stands for any number of images."""

    name: str
    shape: tuple[int | str, ...]


class Frozen(Runner[FrozenTensor]):
    """A frozen network.

    Parameters
    ----------
    folder : what ``sepcore freeze`` wrote.
    crc32 : of the folder's manifest.
    num_threads : threads that one call may use; None takes SEPCORE_NUM_THREADS, else the CPUs this process may use.

    Attributes
    ----------
    inputs, outputs : names and shapes; the first length counts images, "n" where any number of them may come.
    isa : name of the instruction set in use: the best that the folder has code for and the CPU runs.
    num_threads : threads that one call uses: what the folder has a program for, at most what was asked for.
    labels : one name per class, or None.
    preprocess : how a picture becomes the input: the fields of ``sepcore.image.preprocess.Preprocess``.

    Raises
    ------
    FormatError : a file is damaged.
    CpuError : the folder has no code for this CPU or operating system.
    OptionError : num_threads, SEPCORE_NUM_THREADS or SEPCORE_CPU_ISA has a value that is not allowed.
    OSError : a file is missing or may not be read.
    """

    def __init__(self, folder: str, crc32: int, num_threads: int | None = None) -> None:
        manifest = json.loads(_read(os.path.join(folder, MANIFEST), None, crc32))
        files: Mapping[str, Sequence[int]] = manifest["files"]
        if manifest["format"] != FORMAT:
            found = f"{manifest['format']}, by {manifest['writer']}"
            raise FormatError(folder, "format", f"version {FORMAT}", found)
        self.name: str = manifest["name"]
        self.inputs = tuple(FrozenTensor(name, tuple(shape)) for name, shape in manifest["inputs"])
        self.outputs = tuple(FrozenTensor(name, tuple(shape)) for name, shape in manifest["outputs"])
        self._repeated: bool = manifest["repeated"]
        self.labels: list[str] | None = manifest["labels"]
        self.preprocess: dict[str, Any] = manifest["preprocess"]
        level = _best(self.name, manifest["levels"])
        self.isa: str = level["isa"]
        read = partial(_listed, folder, files)
        program = _program(level["programs"], num_threads, read)
        self.num_threads = program.threads
        code = Code(level["machine"], read(level["code"]), level["functions"], level["stubs"])
        addresses = place(code)
        self._weights, base = _mapped(os.path.join(folder, WEIGHTS), *files[WEIGHTS])
        regions = [base]
        if level["copies"] is not None:
            plain = _scaled_back(self._weights, manifest["scaled"])
            self._weights, regions[0] = _repacked(plain, read(level["copies"]), level["weight_bytes"])
        native = {name: addresses[symbol] for name, symbol in level["native"].items()}
        self._prepared = Prepared(program, addresses, shared_pool(lambda: native), regions)

    def _run(self, arrays: list[Array]) -> list[Array]:
        for spec, array in zip(self.inputs, arrays):
            check_shape(spec.name, spec.shape, array.shape)
        images = {array.shape[0] for array in arrays} if self._repeated else {1}
        if len(images) != 1:
            raise InputError(f"inputs: expected one batch size, found {', '.join(map(str, sorted(images)))}")
        (count,) = images
        one = self._prepared.output_shapes
        outputs = [np.empty((count, *shape[1:]) if self._repeated else shape, np.float32) for shape in one]
        # The program is for one image: what a batch shares are the threads, image by image.
        for i in range(count):
            self._prepared.run(
                [address(a) + i * (a.nbytes // count) for a in arrays],
                [address(o) + i * (o.nbytes // count) for o in outputs],
            )
        return outputs


def _best(name: str, levels: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The first level, best first, that this CPU runs and SEPCORE_CPU_ISA does not exclude."""
    wanted = " or ".join(level["cpu"] for level in levels)
    if sys.platform != "linux":
        raise CpuError(f"{name} is frozen for Linux on {wanted}: expected that system, found {sys.platform}")
    try:
        usable = isas.available()
    except ValueError as error:
        raise CpuError(f"{name} is frozen for {wanted}; {error}") from error
    try:
        chosen = isas.chosen()
    except ValueError as error:
        raise OptionError(str(error)) from error
    usable = usable[usable.index(chosen) :]
    by_name = {level["isa"]: level for level in levels}
    for isa in usable:
        if isa.name in by_name:
            return by_name[isa.name]
    found = ", ".join(f"{isa.cpu} ({isa.name})" for isa in usable)
    raise CpuError(f"{name} is frozen for {wanted}: expected a CPU of that level, found one that runs {found}")


def _program(programs: Mapping[str, str], requested: int | None, read: partial[bytes]) -> Linked:
    """The program for the most threads that may be used."""
    most = num_threads(requested)
    threads = max((int(count) for count in programs if int(count) <= most), default=1)
    return from_bytes(zlib.decompress(read(programs[str(threads)])))


def _listed(folder: str, files: Mapping[str, Sequence[int]], name: str) -> bytes:
    return _read(os.path.join(folder, name), *files[name])


def _read(path: str, size: int | None, crc32: int) -> bytes:
    """The content of a file, once it is known to be whole."""
    with open(path, "rb") as file:
        content = file.read()
    _check(path, content, len(content) if size is None else size, crc32)
    return content


def _check(path: str, content: Any, size: int, crc32: int) -> None:
    if len(content) != size:
        raise FormatError(path, "file", f"{size} bytes", f"{len(content)}: cut off, or appended to")
    if zlib.crc32(content) != crc32:
        raise FormatError(path, "file", "content with the CRC-32 it was written with", "other content (damaged)")


def _mapped(path: str, size: int, crc32: int) -> tuple[NDArray[np.uint8], int]:
    """A file's bytes, mapped read-only and shared with every process that has it open, and their address."""
    with open(path, "rb") as file:
        found = os.fstat(file.fileno()).st_size
        if found != size:
            raise FormatError(path, "file", f"{size} bytes", f"{found}: cut off, or appended to")
        mapping = mmap.mmap(file.fileno(), size, prot=mmap.PROT_READ)
    _check(path, mapping, size, crc32)
    content: NDArray[np.uint8] = np.frombuffer(mapping, np.uint8)
    return content, content.ctypes.data


def _repacked(content: NDArray[np.uint8], copies: bytes, size: int) -> tuple[NDArray[np.uint8], int]:
    """Weights in the layout of another level than the file's, made from it; and their address."""
    memory, address = anonymous_memory(size + SPARE_BYTES)
    start = address - memory.ctypes.data
    repack(content, np.frombuffer(copies, np.int64), memory[start : start + size])
    return memory, address


def _scaled_back(content: NDArray[np.uint8], places: Sequence[Sequence[int]]) -> NDArray[np.uint8]:
    """The content with blocks as they were before they were scaled: their offsets, panels, rows and columns."""
    from sepcore.kernels.crossed.balance import unbalance  # what the level that the file is packed for does without

    plain = content.copy() if places else content
    for offset, *shape in places:
        unbalance(np.ndarray(shape, np.float32, plain.data, offset))
    return plain


def repack(source: NDArray[np.uint8], copies: NDArray[np.int64], target: NDArray[np.uint8]) -> None:
    """Do copies of COPY_WORDS integers each; what none of them reaches stays as it is.

    NumPy refuses a copy that leaves ``source`` or ``target``.
    """
    for to, start, *loops in copies.reshape(-1, COPY_WORDS).tolist():
        shape, there, here = loops[0::3], loops[1::3], loops[2::3]
        written: NDArray[np.uint32] = np.ndarray(shape, np.uint32, target.data, 4 * to, [4 * s for s in there])
        written[...] = np.ndarray(shape, np.uint32, source.data, 4 * start, [4 * s for s in here])
