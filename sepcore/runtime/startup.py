"""What starting a network took, kept beside the compiled kernels, so that the next process maps it and runs.

An entry holds machine code and the words that native code follows: it is only ever read from the kernels' cache, which
takes nothing that another user could have written. The model file stays what it was: data, every byte of which is
checked, and of which an entry names bytes by their checksums. Packed weights that the file has not are kept beside the
entry, under their checksum. It must not plan or compile.
"""

from __future__ import annotations

import json
import mmap
import os
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sepcore.compile.cache import ObjectCache, open_cache
from sepcore.compile.code import Code, place
from sepcore.compile.keys import compiler_identity
from sepcore.digest import sha256
from sepcore.formats.sep_head import is_sep, read_manifest
from sepcore.formats.source import Source
from sepcore.formats.sums import CHUNK_BYTES, chunked, sums
from sepcore.kernels.isa import by_name
from sepcore.plan.pages import anonymous_memory
from sepcore.plan.tuned import tuned_state
from sepcore.runtime.linked import Linked, from_bytes
from sepcore.runtime.pool import Pool, shared_pool
from sepcore.runtime.prepared import Prepared

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from sepcore.formats.sep_manifest import PackedWeights

_FORMAT = 2
_FOLDERS = ("kernels", "ir", "passes", "plan", "compile", "runtime")
_SETTLED_SECONDS = 2


class Startup(NamedTuple):
    """One program of one model file.

    Attributes
    ----------
    code : of the program's kernels and the pool's functions, by their names in the registries.
    native : the pool's functions: name -> name in ``code``.
    packed : where the first region of packed weights is in the file: from byte, to byte; (0, 0) where it is in none.
    sums : of the file's bytes before the region, of the region, and of the file's bytes after it.
    regions : the program's other regions.
    about : what the file says of its network beside the graph, see ``sepcore.formats.description``.
    """

    linked: Linked
    code: Code
    native: dict[str, str]
    packed: tuple[int, int]
    sums: tuple[str, str, str]
    regions: tuple[bytes, ...]
    about: Mapping[str, Any]

    def to_bytes(self) -> bytes:
        """What :func:`_from_bytes` reads."""
        code = self.code
        parts = (self.linked.to_bytes(), code.content, *self.regions)
        head = [code.machine, dict(code.functions), dict(code.stubs), self.native, self.packed, self.sums, self.about]
        text = json.dumps([*head, [len(part) for part in parts]], separators=(",", ":")).encode("ascii")
        return b"".join([len(text).to_bytes(8, "little"), text, *parts])


def _from_bytes(content: bytes) -> Startup:
    end = 8 + int.from_bytes(content[:8], "little")
    machine, functions, stubs, native, packed, total, about, lengths = json.loads(content[8:end])
    parts = []
    for length in lengths:
        parts.append(content[end : end + length])
        end += length
    linked, code, *regions = parts
    return Startup(
        from_bytes(linked),
        Code(machine, code, functions, stubs),
        native,
        tuple(packed),
        tuple(total),
        tuple(regions),
        about,
    )


class Started:
    """A program in memory, ready to run.

    Attributes
    ----------
    linked : the program.
    pool : who runs it.
    about : as :class:`Startup` has it.
    """

    def __init__(self, startup: Startup, content: NDArray[np.uint8]) -> None:
        self.linked, self.about = startup.linked, startup.about
        self._addresses = place(startup.code)
        self._memory = [content]  # kept as long as this is
        self._regions = [content.ctypes.data]
        for region in startup.regions:
            memory, address = anonymous_memory(len(region))
            first = address - memory.ctypes.data
            memory[first : first + len(region)] = np.frombuffer(region, np.uint8)
            self._memory.append(memory)
            self._regions.append(address)
        native = {name: self._addresses[symbol] for name, symbol in startup.native.items()}
        self.pool: Pool = shared_pool(lambda: native)

    def prepared(self) -> Prepared:
        """The program with the addresses of all that it needs."""
        return Prepared(self.linked, self._addresses, self.pool, self._regions, self._memory)


def identity(path: str | os.PathLike[str]) -> bytes | None:
    """What tells a model file from others: a digest of checksums of all that is in it. None for a file of another kind.

    Raises
    ------
    FormatError : the file is damaged.
    """
    with Source(path) as source:
        return read_manifest(source)[1] if is_sep(source) else None


def find(path: str | os.PathLike[str], isa: str, threads: int, cache_dir: Path | None = None) -> Started | None:
    """The program that was kept for a model file; None where there is none.

    Raises
    ------
    FormatError : the file is damaged.
    """
    with Source(path) as source:
        if not is_sep(source):
            return None
        cache = open_cache(cache_dir)
        content = cache.get(_key(source, isa, threads, cache, cache_dir))
        if content is None:
            return None
        startup = _from_bytes(content)
        first, last = startup.packed
        weights = _mapped(source, first, last) if last else _kept(cache, startup.sums[1])
        if weights is None:
            return None
        found = (sums(_read(source, 0, first)), sums(chunked(weights)), sums(_read(source, last, source.size)))
        if not last and found[1] != startup.sums[1]:
            return None
        for expected, total, where in zip(startup.sums, found, ("before", "in", "after")):
            if total != expected:
                raise source.error(
                    f"bytes {where} the packed weights",
                    "the content that was there when sepcore first read the file",
                    "other content (damaged)",
                )
        return Started(startup, weights)


def keep(
    path: str | os.PathLike[str],
    file: bytes,
    linked: Linked,
    code: Code,
    native: Mapping[str, str],
    packed: PackedWeights,
    regions: tuple[bytes, ...],
    about: Mapping[str, Any],
    isa: str,
    threads: int,
    cache_dir: Path | None = None,
) -> Started:
    """Have :func:`find` find a program, where the cache can be written; what it would find.

    Parameters
    ----------
    file : the ``identity`` of what the program was made for; nothing is kept if another file has its name by now.
    packed : the first region; others, and what the parameters mean, :class:`Startup` says.
    """
    cache = open_cache(cache_dir)
    with Source(path) as source:
        first, last = (packed.start, packed.start + packed.content.size) if packed.start else (0, 0)
        before, after = (sums(_read(source, *limits)) for limits in ((0, first), (last, source.size)))
        total = (before, sums(chunked(packed.content)), after)
        kept = Startup(linked, code, dict(native), (first, last), total, regions, about)
        same = read_manifest(source)[1] == file
        if same and (last or cache.put_weights(total[1], packed.content.data)):
            cache.offer(_key(source, isa, threads, cache, cache_dir), kept.to_bytes())
            cache.trim()
    return Started(kept, packed.content)


def _kept(cache: ObjectCache, name: str) -> NDArray[np.uint8] | None:
    """Packed weights that no model file has."""
    mapping = cache.weights(name)
    return None if mapping is None else np.frombuffer(mapping, np.uint8)


def _key(source: Source, isa: str, threads: int, cache: ObjectCache, cache_dir: Path | None) -> str:
    """The key of a file's program: all that may change it. The digest is of checksums of all that is in the file."""
    _, digest = read_manifest(source)
    fields = (_FORMAT, digest.hex(), repr(by_name(isa)), threads, compiler_identity(), tuned_state(isa, cache_dir))
    return sha256(repr((*fields, _sources_digest(cache))).encode()).hexdigest()


def _sources_digest(cache: ObjectCache) -> str:
    """Hash of every file that makes a program of a graph: kernels, planner, and what links them.

    Reading them takes longer than all else. So their digest is kept under the sizes, times and numbers that the file
    system has for them: what Python goes by for its own compiled files, and more.
    """
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    files = sorted(found for folder in _FOLDERS for found in _files(os.path.join(root, folder)))
    states = [(path, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino) for path, status in files]
    memo = sha256(repr((_FORMAT, states)).encode()).hexdigest()
    known = cache.get(memo)
    if known is not None:
        return known.decode("ascii")
    total = sha256()
    for path, _ in files:
        with open(path, "rb") as file:
            content = file.read()
        total.update(f"{os.path.relpath(path, root)}\0{len(content)}\0".encode())
        total.update(content)
    # A second edit in the same tick of the file system's clock might leave a file's state as it was.
    if time.time() - max(max(s.st_mtime, s.st_ctime) for _, s in files) > _SETTLED_SECONDS:
        cache.offer(memo, total.hexdigest().encode("ascii"))
    return total.hexdigest()


def _files(folder: str) -> Iterator[tuple[str, os.stat_result]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name == "__pycache__":
                continue
            if entry.is_dir():
                yield from _files(entry.path)
            else:
                yield entry.path, entry.stat()


def _mapped(source: Source, first: int, last: int) -> NDArray[np.uint8]:
    """Bytes of a file, mapped read-only."""
    with open(source.path, "rb", buffering=0) as file:
        if os.fstat(file.fileno()).st_size != source.size:
            raise source.error("file", "one that does not change while it is opened", "another size")
        start = first // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
        # All pages at once: each will be read for the checksum.
        flags = mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0)
        mapping = mmap.mmap(file.fileno(), last - start, flags=flags, prot=mmap.PROT_READ, offset=start)
    content: NDArray[np.uint8] = np.frombuffer(mapping, np.uint8)
    return content[first - start :]


def _read(source: Source, first: int, last: int) -> Iterator[NDArray[np.uint8]]:
    """Bytes of a file, a chunk at a time, all in the same memory: they are only looked at."""
    memory = np.empty(CHUNK_BYTES, np.uint8)
    while first < last:
        chunk = memory[: min(CHUNK_BYTES, last - first)]
        source.read_into(first, chunk.data)
        yield chunk
        first += chunk.size
