"""The runtime's native functions as this machine's cache has them, and the pool on them; it must not know programs."""

from __future__ import annotations

from pathlib import Path

from sepcore.compile import Progress, kernels_for
from sepcore.kernels.isa import Isa
from sepcore.kernels.runtime import rows
from sepcore.runtime.pool import Pool, shared_pool


def native_functions(isa: Isa, cache_dir: Path | None = None, progress: Progress | None = None) -> dict[str, int]:
    """Addresses of the runtime's native functions, by name without the instruction set.

    Raises
    ------
    CompileError : they cannot be compiled or loaded.
    """
    specs = list(rows.rows(isa.name))
    found = kernels_for(specs, isa.name, cache_dir=cache_dir, progress=progress, registry=rows.__name__)
    return {spec.name.rpartition("__")[0]: found[spec.name] for spec in specs}


def pool_for(isa: Isa, cache_dir: Path | None = None, progress: Progress | None = None) -> Pool:
    """The one pool of this process.

    Raises
    ------
    CompileError : the native functions cannot be compiled or loaded.
    """
    return shared_pool(lambda: native_functions(isa, cache_dir, progress))
