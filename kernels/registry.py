"""Every kernel row there is: the table that the planner, the tests and the benches walk.

Rows of users' operators are found by name like all others, but stand in no table.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from sepcore.kernels import chain
from sepcore.kernels import isa as isas
from sepcore.kernels.conv import dense, stem
from sepcore.kernels.crossed import rows as crossed
from sepcore.kernels.custom import rows as custom
from sepcore.kernels.depthwise import general as depthwise_general
from sepcore.kernels.depthwise import rows as depthwise
from sepcore.kernels.elementwise import layout
from sepcore.kernels.elementwise import rows as elementwise
from sepcore.kernels.matmul import rows as matmul
from sepcore.kernels.pointwise import rows as pointwise
from sepcore.kernels.pointwise import scale
from sepcore.kernels.pool import rows as pool
from sepcore.kernels.reduce import rows as reduce
from sepcore.kernels.reduce import softmax
from sepcore.kernels.resize import rows as resize
from sepcore.kernels.spec import KernelSpec
from sepcore.kernels.strided import copy as strided_copy
from sepcore.kernels.strided import rows as strided
from sepcore.kernels.window import rows as window
from sepcore.kernels.winograd import rows as winograd

FAMILIES = (
    pointwise, depthwise, depthwise_general, stem, dense, pool, elementwise, layout, chain, strided_copy, strided,
    window, resize, reduce, softmax, matmul, scale, crossed, winograd,
)  # fmt: skip


def rows(isa: str) -> Iterator[KernelSpec]:
    """Every row of an instruction set."""
    for family in FAMILIES:
        yield from family.rows(isa)


@cache
def _by_name(isa: str) -> dict[str, KernelSpec]:
    return {spec.name: spec for spec in rows(isa)}


def find(name: str) -> KernelSpec:
    """The row called ``name``; KeyError where there is none."""
    isa = name.rpartition("__")[2]
    isas.by_name(isa)
    return _by_name(isa).get(name) or custom.find(name)
