"""Kernel objects: compiled once with Numba, kept on disk, loaded without Numba; it must not know graphs or plans."""

from __future__ import annotations

import os
from _thread import allocate_lock
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from sepcore.compile.cache import CacheEntry, ObjectCache, open_cache
from sepcore.compile.keys import KernelRow, compiler_identity, object_key, remembered_source_digest
from sepcore.kernels import isa as isas

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "CacheEntry",
    "KernelRow",
    "ObjectCache",
    "Progress",
    "keep_objects",
    "kernels_for",
    "objects_for",
    "open_cache",
]

REGISTRY = "sepcore.kernels.registry"

# Called with the kernels built so far and those to build, first with 0; only when something must be built.
Progress = Callable[[int, int], None]

_addresses: dict[str, int] = {}  # by key, of everything this process has loaded
_lock = allocate_lock()


def _renew_lock() -> None:
    """A forked child: the thread that held the lock is not in it."""
    global _lock
    _lock = allocate_lock()


os.register_at_fork(after_in_child=_renew_lock)


def kernels_for(
    rows: Sequence[KernelRow],
    level: str,
    *,
    cache_dir: Path | None = None,
    progress: Progress | None = None,
    registry: str = REGISTRY,
) -> dict[str, int]:
    """Addresses of the rows' C functions in this process, by row name.

    Parameters
    ----------
    level : name of an instruction set that this CPU has (``sepcore.kernels.isa``).
    cache_dir : folder to keep objects in; None takes SEPCORE_CACHE_DIR, else the user's cache folder.
    progress : told how many kernels are built, of how many.
    registry : module with ``find(name)``, by which a compiling process finds a row again.

    Raises
    ------
    CompileError : a kernel cannot be compiled or loaded.
    """
    keys = _keys(rows, level, registry)
    with _lock:
        new = [row for row in rows if keys[row.name] not in _addresses]
        if new:
            from sepcore.compile.loader import load

            objects = objects_for(new, level, cache_dir=cache_dir, progress=progress, registry=registry)
            _addresses.update((keys[name], address) for name, address in load(objects).items())
    return {row.name: _addresses[keys[row.name]] for row in rows}


def objects_for(
    rows: Sequence[KernelRow],
    level: str,
    *,
    cache_dir: Path | None = None,
    progress: Progress | None = None,
    registry: str = REGISTRY,
) -> dict[str, bytes]:
    """The rows' relocatable objects by row name, from the cache or else built and put there; for any CPU's level.

    Parameters and errors are those of ``kernels_for``, which also loads them.
    """
    keys = _keys(rows, level, registry)
    wanted = {row.name: row for row in rows}
    cache = open_cache(cache_dir)
    found = _look_up(cache, keys)
    if len(found) == len(keys):
        return found
    with cache.build_lock():
        # Another process may have built them while this one waited.
        found |= _look_up(cache, {name: key for name, key in keys.items() if name not in found})
        missing = [row for name, row in wanted.items() if name not in found]
        if missing:
            found |= _build(missing, level, registry, keys, cache, progress)
    return found


def keep_objects(
    rows: Sequence[KernelRow],
    level: str,
    cache: ObjectCache,
    *,
    cache_dir: Path | None = None,
    progress: Progress | None = None,
    registry: str = REGISTRY,
) -> None:
    """Have the rows' objects in ``cache``, built if need be.

    Parameters
    ----------
    cache : where they have to be afterwards; the other parameters, and errors, are those of ``objects_for``.

    Raises
    ------
    OSError : the folder of ``cache`` cannot be written.
    """
    objects = objects_for(rows, level, cache_dir=cache_dir, progress=progress, registry=registry)
    for name, key in _keys(rows, level, registry).items():
        if cache.get(key) is None:
            cache.write(key, objects[name])


def _keys(rows: Sequence[KernelRow], level: str, registry: str) -> dict[str, str]:
    isa = isas.by_name(level)
    sources, compiler = remembered_source_digest(registry), compiler_identity()
    return {row.name: object_key(row, isa, sources, compiler) for row in rows}


def _look_up(cache: ObjectCache, keys: dict[str, str]) -> dict[str, bytes]:
    return {name: bytes(code) for name, key in keys.items() if (code := cache.get(key)) is not None}


def _build(
    rows: Sequence[KernelRow],
    level: str,
    registry: str,
    keys: dict[str, str],
    cache: ObjectCache,
    progress: Progress | None,
) -> dict[str, bytes]:
    from sepcore.compile.parallel import build_rows

    built: dict[str, bytes] = {}
    if progress is not None:
        progress(0, len(rows))
    for name, code in build_rows(rows, level, registry):
        cache.put(keys[name], code)
        built[name] = code
        if progress is not None:
            progress(len(built), len(rows))
    cache.trim()
    return built
