"""What starting a network took, kept beside the compiled kernels, so that the next process maps it and runs.

An entry holds machine code and the words that native code follows: it is only ever read from the kernels' cache, which
takes nothing that another user could have written. The model file stays what it was: data, every byte of which is
checked, and of which an entry names bytes by their checksums. Packed weights that the file has not are kept beside the
entry, under their checksum. What was checked once since the machine started is not checked again, as long as the file
system says that no file was written to. It must not plan or compile.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

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
from sepcore.runtime.parts import Bytes, Reader, content, integers, texts
from sepcore.runtime.pool import Pool, shared_pool
from sepcore.runtime.prepared import Prepared
from sepcore.runtime.seen import boot, settled, states

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from sepcore.formats.sep_manifest import PackedWeights

_FORMAT = 4
_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_FOLDERS = ("kernels", "ir", "passes", "plan", "compile", "runtime")


class Startup(NamedTuple):
    """One program of one model file.

    Attributes
    ----------
    code : of the program's kernels and the pool's functions, by their names in the registries.
    native : the pool's functions: name -> name in ``code``.
    packed : where the first region of packed weights is in the file: from byte, to byte; (0, 0) where it is in none.
    sums : of the file's bytes before the region, of the region, and of the file's bytes after it.
    regions : the program's other regions.
    about : what the file says of its network beside the graph, as JSON, see ``sepcore.formats.description``.
    """

    linked: Linked
    code: Code
    native: dict[str, str]
    packed: tuple[int, int]
    sums: tuple[str, str, str]
    regions: tuple[Bytes, ...]
    about: Bytes

    def to_bytes(self) -> bytes:
        """What :func:`_from_bytes` reads."""
        code = self.code
        parts = [texts([code.machine, *self.sums]), integers([*self.packed, len(self.regions)])]
        for offsets in (code.functions, code.stubs):
            parts += [texts(offsets), integers(offsets.values())]
        parts += [texts(self.native), texts(self.native.values())]
        parts += [content(part) for part in (self.about, code.content, self.linked.to_bytes(), *self.regions)]
        return b"".join(parts)


def _from_bytes(kept: memoryview) -> Startup:
    reader = Reader(kept)
    machine, before, inside, after = reader.texts()
    first, last, regions = reader.integers()
    functions, stubs = (dict(zip(reader.texts(), reader.integers())) for _ in range(2))
    native = dict(zip(reader.texts(), reader.texts()))
    about, code, linked = (reader.content() for _ in range(3))
    return Startup(
        from_bytes(linked),
        Code(machine, code, functions, stubs),
        native,
        (first, last),
        (before, inside, after),
        tuple(reader.content() for _ in range(regions)),
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
        start = _Start(source, isa, threads, open_cache(cache_dir), cache_dir)
        return start.unchanged() or start.checked()


class _Start:
    """One way to start a model file: with one instruction set and number of threads."""

    def __init__(self, source: Source, isa: str, threads: int, cache: ObjectCache, cache_dir: Path | None) -> None:
        self._source, self._cache = source, cache
        self._setting = (_FORMAT, repr(by_name(isa)), threads, compiler_identity(), tuned_state(isa, cache_dir))
        self._sources = _sources()
        self._files = [source.status, *_statuses(self._sources)]
        self._memo = _hash(("seen", _FORMAT, source.status.st_dev, source.status.st_ino, isa, threads))

    @property
    def key(self) -> str:
        """The key of the entry: all that may change it. The digest is of checksums of all that is in the file."""
        _, digest = read_manifest(self._source)
        return _hash((*self._setting, digest.hex(), _sources_digest(self._cache, self._sources)))

    def unchanged(self) -> Started | None:
        """What :meth:`checked` found before, where no file has changed since."""
        memo = self._cache.get(self._memo)
        if memo is None:
            return None
        told, key, weights = str(memo, "ascii").split("\n")
        loaded = self._loaded(key) if told == self._told() else None
        if loaded is None or states(loaded[2]).hex() != weights:
            return None
        return Started(*loaded[:2])

    def checked(self) -> Started | None:
        """The entry, once every byte of the model file and of the weights is known to be what it was."""
        source, key = self._source, self.key
        loaded = self._loaded(key)
        if loaded is None:
            return None
        startup, weights, kept = loaded
        first, last = startup.packed
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
        self._remember(key, kept)
        return Started(startup, weights)

    def _loaded(self, key: str) -> tuple[Startup, NDArray[np.uint8], list[os.stat_result]] | None:
        """An entry, its packed weights, and the status of the file that these have to themselves, if they do."""
        entry = self._cache.get(key)
        if entry is None:
            return None
        startup = _from_bytes(entry)
        first, last = startup.packed
        if last:
            return startup, _mapped(self._source, first, last), []
        kept = self._cache.weights(startup.sums[1])
        return None if kept is None else (startup, np.frombuffer(kept[0], np.uint8), [kept[1]])

    def _remember(self, key: str, weights: Sequence[os.stat_result]) -> None:
        """Have :meth:`unchanged` find the entry, as long as it can tell that nothing has changed."""
        if boot() is not None and settled([*self._files, *weights]):
            self._cache.offer(self._memo, "\n".join((self._told(), key, states(weights).hex())).encode("ascii"))

    def _told(self) -> str:
        """All that tells whether the entry is still right, but for the state of the weights."""
        return _hash((boot(), *self._setting, sha256(states(self._files)).digest()))


def keep(
    path: str | os.PathLike[str],
    file: bytes,
    linked: Linked,
    code: Code,
    native: Mapping[str, str],
    packed: PackedWeights,
    regions: tuple[bytes, ...],
    about: bytes,
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
            cache.offer(_Start(source, isa, threads, cache, cache_dir).key, kept.to_bytes())
            cache.trim()
    return Started(kept, packed.content)


def _hash(fields: Iterable[object]) -> str:
    return sha256(repr(tuple(fields)).encode()).hexdigest()


def _sources_digest(cache: ObjectCache, files: Sequence[tuple[str, os.stat_result]]) -> str:
    """Hash of every file that makes a program of a graph: kernels, planner, and what links them.

    Reading them takes longer than all else, so their digest is kept under their states.

    Parameters
    ----------
    files : what :func:`_sources` gives.
    """
    memo = _hash((_FORMAT, [path for path, _ in files], states(_statuses(files))))
    known = cache.get(memo)
    if known is not None:
        return str(known, "ascii")
    total = sha256()
    for path, _ in files:
        with open(path, "rb") as file:
            content = file.read()
        total.update(f"{os.path.relpath(path, _ROOT)}\0{len(content)}\0".encode())
        total.update(content)
    if settled(_statuses(files)):
        cache.offer(memo, total.hexdigest().encode("ascii"))
    return total.hexdigest()


def _sources() -> list[tuple[str, os.stat_result]]:
    """The paths of those files, in order, and what the file system says of each."""
    found = []
    folders = [os.path.join(_ROOT, folder) for folder in _FOLDERS]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if not entry.is_dir():
                    found.append((entry.path, entry.stat()))
                elif entry.name != "__pycache__":
                    folders.append(entry.path)
    return sorted(found)


def _statuses(files: Iterable[tuple[str, os.stat_result]]) -> list[os.stat_result]:
    return [status for _, status in files]


def _mapped(source: Source, first: int, last: int) -> NDArray[np.uint8]:
    """Bytes of a file, mapped read-only."""
    with open(source.path, "rb", buffering=0) as file:
        if states([os.fstat(file.fileno())]) != states([source.status]):
            raise source.error("file", "one that does not change while it is opened", "another, or one written to")
        start = first // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
        mapping = mmap.mmap(file.fileno(), last - start, prot=mmap.PROT_READ, offset=start)
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
