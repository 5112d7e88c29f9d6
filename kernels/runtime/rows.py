"""Every native function of the runtime, by instruction set; compiles nothing."""

from __future__ import annotations

from collections.abc import Iterator

from sepcore.kernels import isa as isas
from sepcore.kernels.runtime import pool, walk
from sepcore.kernels.spec import KernelSpec


def rows(isa: str) -> Iterator[KernelSpec]:
    """Every row of an instruction set."""
    yield from walk.rows(isa)
    yield from pool.rows(isa)


def find(name: str) -> KernelSpec:
    """The row called ``name``; KeyError where there is none."""
    isa = name.rpartition("__")[2]
    isas.by_name(isa)
    return {spec.name: spec for spec in rows(isa)}[name]
