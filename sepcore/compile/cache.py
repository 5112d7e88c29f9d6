"""Keeps kernel objects on disk under their keys; it must not know how they are made or run.

Many processes may use one folder at once: a file appears whole, by renaming, and is checked before it is used. Only
files of this user or of root are read, and only where nobody else can write: what they hold will be executed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import stat
import struct
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from sepcore.cache import cache_candidates
from sepcore.environment import env_prebuilt_cache_dir

# Magic, format version, key, length and SHA-256 of the object that follows.
_HEADER = struct.Struct("<8sI32sQ32s")
_MAGIC, _VERSION = b"SEPKOBJ\0", 1
_SUFFIX = ".kernel"
_LOCK = "lock"
_MAX_OBJECT_BYTES = 1 << 24
LIMIT_BYTES = 1 << 28
_DAY_SECONDS = 86400
_STALE_SECONDS = 3600
_LOCK_SECONDS = 120.0
_LOCK_POLL_SECONDS = 0.02

_warned: set[str] = set()


class CacheEntry(NamedTuple):
    """A file of the cache; ``used`` is when it was last needed, in seconds since 1970, to a day."""

    key: str
    size: int
    used: float


class ObjectCache:
    """Kernel objects in a folder of the user's and, searched before it, a folder that is only read.

    Nothing raises where the file system refuses: a miss is a miss, and what cannot be kept is in memory only, with one
    warning for the life of the process.
    """

    def __init__(self, folder: Path | None, prebuilt: Path | None = None) -> None:
        self.folder = folder
        self.prebuilt = prebuilt

    def get(self, key: str) -> bytes | None:
        """The object called ``key``, or None where there is none that is whole and trustworthy."""
        for folder in (self.prebuilt, self.folder):
            if folder is not None and (code := _read(folder / (key + _SUFFIX), key)) is not None:
                return code
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

    def write(self, key: str, code: bytes) -> None:
        """Keep ``code`` under ``key`` in the user's folder, replacing what is there.

        Raises
        ------
        OSError : the folder cannot be written, or others could write there.
        """
        header = _HEADER.pack(_MAGIC, _VERSION, bytes.fromhex(key), len(code), hashlib.sha256(code).digest())
        path = self._path(key)
        temporary = path.with_name(f".{key[:16]}.{os.getpid()}.{os.urandom(4).hex()}")
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        _require_trusted(path.parent.stat(), path.parent)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
        try:
            with open(descriptor, "wb") as file:
                file.write(header)
                file.write(code)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
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
            with contextlib.suppress(OSError):
                # A child that was forked meanwhile holds a copy of the descriptor: closing alone would not unlock.
                fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)

    def _open_lock(self) -> int | None:
        if self.folder is None:
            return None
        try:
            self.folder.mkdir(mode=0o755, parents=True, exist_ok=True)
            return os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        except OSError:
            return None

    def trim(self, limit: int = LIMIT_BYTES) -> None:
        """Drop the objects that were not needed for the longest time, down to ``limit`` bytes, and lost temporaries."""
        now = time.time()
        for path, status in self._files():
            if path.name.startswith(".") and now - status.st_mtime > _STALE_SECONDS:
                _unlink(path)
        entries = sorted(self.entries(), key=lambda entry: entry.used)
        total = sum(entry.size for entry in entries)
        for entry in entries:
            if total <= limit:
                break
            _unlink(self._path(entry.key))
            total -= entry.size

    def entries(self) -> list[CacheEntry]:
        """What is in the user's folder."""
        return [
            CacheEntry(path.name[: -len(_SUFFIX)], status.st_size, status.st_mtime)
            for path, status in self._files()
            if path.name.endswith(_SUFFIX) and not path.name.startswith(".")
        ]

    def clear(self) -> int:
        """Delete every object of the user's folder; how many there were."""
        entries = self.entries()
        for entry in entries:
            _unlink(self._path(entry.key))
        return len(entries)

    def damaged(self) -> list[str]:
        """Keys in the user's folder whose objects would not be used."""
        return [entry.key for entry in self.entries() if _read(self._path(entry.key), entry.key) is None]

    def _path(self, key: str) -> Path:
        assert self.folder is not None
        return self.folder / (key + _SUFFIX)

    def _files(self) -> list[tuple[Path, os.stat_result]]:
        found = []
        with contextlib.suppress(OSError):
            for entry in os.scandir(self.folder) if self.folder is not None else ():
                with contextlib.suppress(FileNotFoundError):
                    if entry.is_file(follow_symlinks=False):
                        found.append((Path(entry.path), entry.stat(follow_symlinks=False)))
        return found


def open_cache(cache_dir: Path | None = None) -> ObjectCache:
    """The cache in ``cache_dir``, SEPCORE_CACHE_DIR or the user's folder, behind SEPCORE_PREBUILT_CACHE_DIR."""
    base = next(iter(cache_candidates(cache_dir)), None)
    prebuilt = env_prebuilt_cache_dir()
    return ObjectCache(base / "kernels" if base else None, prebuilt / "kernels" if prebuilt else None)


def _read(path: Path, key: str) -> bytes | None:
    """The object in ``path``, or None where the file is missing, not trusted, damaged or another's."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        content = _trusted_content(descriptor, path)
    except PermissionError as error:
        _warn_once(str(path.parent), f"compiled kernels are not read from the cache: {error.strerror}")
        return None
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return _unwrapped(content, key)


def _trusted_content(descriptor: int, path: Path) -> bytes:
    """What an open file holds; empty where it is no regular file or larger than any object."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_size > _HEADER.size + _MAX_OBJECT_BYTES:
        return b""
    _require_trusted(status, path)
    _require_trusted(path.parent.stat(), path.parent)
    if time.time() - status.st_mtime > _DAY_SECONDS:
        with contextlib.suppress(OSError):
            os.utime(descriptor)  # needed again: not to be trimmed soon
    with open(descriptor, "rb", closefd=False) as file:
        return file.read(status.st_size)


def _unwrapped(content: bytes, key: str) -> bytes | None:
    """The object in a file's content, or None where any byte of it is not as it was written."""
    if len(content) < _HEADER.size:
        return None
    magic, version, name, length, digest = _HEADER.unpack_from(content)
    code = content[_HEADER.size :]
    if (magic, version, name.hex(), length) != (_MAGIC, _VERSION, key, len(code)):
        return None
    return code if hashlib.sha256(code).digest() == digest else None


def _require_trusted(status: os.stat_result, path: Path) -> None:
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
    deadline = time.monotonic() + _LOCK_SECONDS
    while time.monotonic() < deadline:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_LOCK_POLL_SECONDS)
        except OSError:
            return None
    return None


def _unlink(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


def _warn_once(subject: str, message: str) -> None:
    if subject not in _warned:
        _warned.add(subject)
        warnings.warn(message, RuntimeWarning, stacklevel=3)
