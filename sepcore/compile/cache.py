"""Keeps kernel objects, and weights packed for kernels, on disk; it must not know how they are made or run.

Many processes may use one folder at once: a file appears whole, by renaming, and is checked before it is used. Only
files of this user or of root are read, and only where nobody else can write: what they hold will be executed.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import stat
import struct
import time
import warnings
from collections.abc import Callable, Iterator
from os.path import basename, dirname, join
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from sepcore.cache import cache_candidates
from sepcore.environment import env_prebuilt_cache_dir

if TYPE_CHECKING:
    from typing import TypeAlias

    Folder: TypeAlias = "str | os.PathLike[str] | None"

# Magic, format version, key, length and checksum (see ``sepcore.formats.sums``) of the object that follows.
_HEADER = struct.Struct("<8sQ32sQ32s")
_MAGIC, _VERSION = b"SEPKOBJ\0", 2
KERNEL, WEIGHTS = ".kernel", ".weights"
_LOCK = "lock"
_MAX_OBJECT_BYTES = 1 << 24
LIMIT_BYTES = 1 << 28
MAX_WEIGHT_BYTES = LIMIT_BYTES // 4
_DAY_SECONDS = 86400
_STALE_SECONDS = 3600
_LOCK_SECONDS = 120.0
_LOCK_POLL_SECONDS = 0.02

_warned: set[str] = set()

Content = TypeVar("Content")


class CacheEntry(NamedTuple):
    """A file of the cache, a KERNEL or WEIGHTS; ``used``: when it was last needed, in seconds since 1970, to a day."""

    key: str
    size: int
    used: float
    kind: str


class ObjectCache:
    """Kernel objects in a folder of the user's and, searched before it, a folder that is only read.

    Nothing raises where the file system refuses: a miss is a miss, and what cannot be kept is in memory only, with one
    warning for the life of the process.
    """

    def __init__(self, folder: Folder, prebuilt: Folder = None) -> None:
        self.folder = None if folder is None else os.fspath(folder)
        self.prebuilt = None if prebuilt is None else os.fspath(prebuilt)

    def get(self, key: str) -> memoryview | None:
        """The object called ``key``, or None where there is none that is whole and trustworthy."""
        for folder in (self.prebuilt, self.folder):
            if folder is not None and (code := _read(join(folder, key + KERNEL), key)) is not None:
                return code
        return None

    def weights(self, name: str) -> tuple[mmap.mmap, os.stat_result] | None:
        """The weights that were kept as ``name``, mapped, and what the file system says of them; None where there are
        none that may be trusted.

        Whether they are whole is for the caller to see: ``name`` is their checksum, see ``sepcore.formats.sums``.
        """
        for folder in (self.prebuilt, self.folder):
            if folder is not None and (kept := _mapped(join(folder, name + WEIGHTS))) is not None:
                return kept
        return None

    def put(self, key: str, code: bytes) -> None:
        """Keep ``code`` under ``key``, replacing what is there; warns, once, where that cannot be."""
        if self.folder is None:
            _warn_once("memory", "compiled kernels are kept in memory only: there is no cache folder")
            return
        try:
            self.write(key, code)
        except OSError as error:
            _warn_once("memory", f"compiled kernels are kept in memory only: {self.folder}: {error.strerror or error}")

    def offer(self, key: str, content: bytes) -> None:
        """``put`` for what takes so little to make again that nobody need hear where it cannot be kept."""
        if self.folder is not None:
            with contextlib.suppress(OSError):
                self.write(key, content)

    def write(self, key: str, code: bytes) -> None:
        """Keep ``code`` under ``key`` in the user's folder, replacing what is there.

        Raises
        ------
        OSError : the folder cannot be written, or others could write there.
        """
        header = _HEADER.pack(_MAGIC, _VERSION, bytes.fromhex(key), len(code), bytes.fromhex(_sums(code)))
        self._write(self._path(key, KERNEL), header, code)

    def put_weights(self, name: str, content: memoryview) -> bool:
        """Keep weights as ``name``, their checksum; whether they are kept: to do without them takes only time."""
        if self.folder is None or len(content) > MAX_WEIGHT_BYTES:
            return False
        path = self._path(name, WEIGHTS)
        kept = _mapped(path)
        if kept is not None and _sums(kept[0]) == name:
            return True
        try:
            self._write(path, content)
        except OSError:
            return False
        return True

    def _write(self, path: str, *parts: bytes | memoryview) -> None:
        """A file of the folder, which appears whole."""
        folder, name = os.path.split(path)
        temporary = join(folder, f".{name[:16]}.{os.getpid()}.{os.urandom(4).hex()}")
        os.makedirs(folder, mode=0o755, exist_ok=True)
        _require_trusted(os.stat(folder), folder)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
        try:
            with open(descriptor, "wb") as file:
                for part in parts:
                    file.write(part)
            os.replace(temporary, path)
        except BaseException:
            _unlink(temporary)
            raise

    @contextlib.contextmanager
    def build_lock(self) -> Iterator[None]:
        """Held by the one process that builds into the folder; the others wait, and then find what it built.

        It only saves work: after two minutes, or where files cannot be locked, the body runs without it.
        """
        descriptor = self._open_lock()
        if descriptor is None:
            yield
            return
        try:
            _lock(descriptor)
            yield
        finally:
            import fcntl

            with contextlib.suppress(OSError):
                # A child that was forked meanwhile holds a copy of the descriptor: closing alone would not unlock.
                fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)

    def _open_lock(self) -> int | None:
        if self.folder is None:
            return None
        try:
            os.makedirs(self.folder, mode=0o755, exist_ok=True)
            return os.open(join(self.folder, _LOCK), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        except OSError:
            return None

    def trim(self, limit: int = LIMIT_BYTES) -> None:
        """Drop what was not needed for the longest time, down to ``limit`` bytes, and lost temporaries.

        Weights go before kernels, which take longer to make and are smaller.
        """
        now = time.time()
        for path, status in self._files():
            if basename(path).startswith(".") and now - status.st_mtime > _STALE_SECONDS:
                _unlink(path)
        entries = sorted(self.entries(), key=lambda entry: (entry.kind == KERNEL, entry.used))
        total = sum(entry.size for entry in entries)
        for entry in entries:
            if total <= limit:
                break
            _unlink(self._path(entry.key, entry.kind))
            total -= entry.size

    def entries(self) -> list[CacheEntry]:
        """What is in the user's folder."""
        return [
            CacheEntry(os.path.splitext(name)[0], status.st_size, status.st_mtime, kind)
            for name, status in ((basename(path), status) for path, status in self._files())
            for kind in (KERNEL, WEIGHTS)
            if name.endswith(kind) and not name.startswith(".")
        ]

    def clear(self) -> int:
        """Delete every file of the user's folder; how many there were."""
        entries = self.entries()
        for entry in entries:
            _unlink(self._path(entry.key, entry.kind))
        return len(entries)

    def damaged(self) -> list[str]:
        """Names of the files in the user's folder that would not be used."""
        return [entry.key + entry.kind for entry in self.entries() if not self._is_whole(entry)]

    def _is_whole(self, entry: CacheEntry) -> bool:
        path = self._path(entry.key, entry.kind)
        if entry.kind == KERNEL:
            return _read(path, entry.key) is not None
        kept = _mapped(path)
        return kept is not None and _sums(kept[0]) == entry.key

    def _path(self, key: str, kind: str) -> str:
        assert self.folder is not None
        return join(self.folder, key + kind)

    def _files(self) -> list[tuple[str, os.stat_result]]:
        found = []
        with contextlib.suppress(OSError):
            for entry in os.scandir(self.folder) if self.folder is not None else ():
                with contextlib.suppress(FileNotFoundError):
                    if entry.is_file(follow_symlinks=False):
                        found.append((entry.path, entry.stat(follow_symlinks=False)))
        return found


def open_cache(cache_dir: Folder = None) -> ObjectCache:
    """The cache in ``cache_dir``, SEPCORE_CACHE_DIR or the user's folder, behind SEPCORE_PREBUILT_CACHE_DIR."""
    base = next(iter(cache_candidates(cache_dir)), None)
    prebuilt = env_prebuilt_cache_dir()
    return ObjectCache(join(base, "kernels") if base else None, join(prebuilt, "kernels") if prebuilt else None)


def _read(path: str, key: str) -> memoryview | None:
    """The object in ``path``, or None where the file is missing, not trusted, damaged or another's."""
    content = _trusted(path, _HEADER.size + _MAX_OBJECT_BYTES, _content)
    return None if content is None else _unwrapped(content, key)


def _mapped(path: str) -> tuple[mmap.mmap, os.stat_result] | None:
    """The weights in ``path`` and the file's status, or None where the file is missing or not trusted."""
    return _trusted(path, MAX_WEIGHT_BYTES, _mapping)


def _trusted(path: str, most: int, take: Callable[[int, os.stat_result], Content]) -> Content | None:
    """What ``take`` gives for a file's descriptor and status; None where it is not there, not trusted, or too large."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or not 0 < status.st_size <= most:
            return None
        _require_trusted(status, path)
        _require_trusted(os.stat(dirname(path)), dirname(path))
        if time.time() - status.st_mtime > _DAY_SECONDS:
            with contextlib.suppress(OSError):
                os.utime(descriptor)  # needed again: not to be trimmed soon
        return take(descriptor, status)
    except PermissionError as error:
        _warn_once(dirname(path), f"compiled kernels are not read from the cache: {error.strerror}")
        return None
    except OSError:
        return None
    finally:
        os.close(descriptor)


def _content(descriptor: int, status: os.stat_result) -> bytes:
    with open(descriptor, "rb", closefd=False) as file:
        return file.read(status.st_size)


def _mapping(descriptor: int, status: os.stat_result) -> tuple[mmap.mmap, os.stat_result]:
    return mmap.mmap(descriptor, status.st_size, prot=mmap.PROT_READ), status


def _unwrapped(content: bytes, key: str) -> memoryview | None:
    """The object in a file's content, or None where any byte of it is not as it was written."""
    if len(content) < _HEADER.size:
        return None
    magic, version, name, length, digest = _HEADER.unpack_from(content)
    code = memoryview(content)[_HEADER.size :]
    if (magic, version, name.hex(), length) != (_MAGIC, _VERSION, key, len(code)):
        return None
    return code if _sums(code) == digest.hex() else None


def _sums(content: bytes | memoryview | mmap.mmap) -> str:
    """The checksum of a file's content: with Python's SHA-256, a start would spend most of its time on it."""
    from sepcore.formats.sums import sums_of

    return sums_of(content)


def _require_trusted(status: os.stat_result, path: str) -> None:
    """PermissionError unless this user or root owns the file and nobody else may write it."""
    if status.st_uid not in (os.geteuid(), 0):
        reason = f"{path}: expected user {os.geteuid()} or root as the owner, found user {status.st_uid}"
    elif status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        reason = f"{path}: expected that only its owner can write, found mode {stat.S_IMODE(status.st_mode):o}"
    else:
        return
    raise PermissionError(errno.EPERM, reason)


def _lock(descriptor: int) -> None:
    """Wait for the lock; returns without it after ``_LOCK_SECONDS`` or where the file system has none."""
    import fcntl

    deadline = time.monotonic() + _LOCK_SECONDS
    while time.monotonic() < deadline:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_LOCK_POLL_SECONDS)
        except OSError:
            return None
    return None


def _unlink(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)


def _warn_once(subject: str, message: str) -> None:
    if subject not in _warned:
        _warned.add(subject)
        warnings.warn(message, RuntimeWarning, stacklevel=3)
