"""A step whose tiles are runs of other steps: bands of several layers, so that what one writes the next finds in cache.

Words of the step: thread t walks the sub-table at FIRST_TABLE + t * TABLE_BYTES; tile i takes its rows from word
STARTS + i up to word STARTS + i + 1. Rows are whole steps of one tile each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sepcore.kernels import step
from sepcore.kernels.spec import KernelSpec

FIRST_TABLE, TABLE_BYTES, STARTS = range(step.FIRST_SHAPE, step.FIRST_SHAPE + 3)
MAX_TILES = step.WORDS - STARTS - 1


def row(isa: str) -> KernelSpec:
    """The row of an instruction set."""
    return KernelSpec(f"chain__{isa}", "chain", isa, None, _build)


def rows(isa: str) -> Iterator[KernelSpec]:
    """The one row of an instruction set."""
    yield row(isa)


def _build(spec: KernelSpec) -> Callable[[int, int, int, int], None]:
    from sepcore.kernels.runtime.prim import call_kernel
    from sepcore.kernels.words import load_word

    def kernel(at: int, index: int, thread: int, image: int) -> None:
        table = load_word(at + 8 * FIRST_TABLE)
        table += load_word(thread + 8 * step.THREAD_INDEX) * load_word(at + 8 * TABLE_BYTES)
        first, end = load_word(at + 8 * (STARTS + index)), load_word(at + 8 * (STARTS + index + 1))
        for i in range(first, end):
            row_at = table + i * step.STEP_BYTES
            call_kernel(load_word(row_at + 8 * step.CODE), row_at, 0, thread, image)

    return kernel
