"""Memory for packed weights and activations, straight from the system; it must not know what is put there."""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

ALIGNMENT = 64
SPARE_BYTES = 4096
"""Behind packed weights: kernels prefetch past a panel's end, never load, but vector loads of a tail stay inside."""

_HUGE_PAGE = 2 << 20


def aligned(size: int) -> int:
    """``size`` rounded up to the alignment."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def anonymous_memory(size: int) -> tuple[NDArray[np.uint8], int]:
    """Zeroed memory of ``size`` bytes on huge pages where the system gives them, and its address (64-byte aligned).

    A forked child has a copy of its own from the first write on.
    """
    # A huge page takes less time than the 256 usual ones that hold half of it.
    huge = (size + _HUGE_PAGE // 2) // _HUGE_PAGE * _HUGE_PAGE
    total = max(aligned(size), huge) + (_HUGE_PAGE if huge else ALIGNMENT)
    # Python's default is memory that forked children share, which are never huge pages, and in which the calls of one
    # process would write over those of another.
    block = mmap.mmap(-1, total, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    array = np.frombuffer(block, np.uint8)
    address = array.ctypes.data
    if huge:
        if hasattr(mmap, "MADV_HUGEPAGE"):
            block.madvise(mmap.MADV_HUGEPAGE)
        address = -(-address // _HUGE_PAGE) * _HUGE_PAGE
    return array, address
