"""Packed weights: each made once, kept in execution order in large blocks that every program of a model shares."""

from __future__ import annotations

import mmap
import threading
from collections.abc import Callable, Hashable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepcore.plan.memory import aligned

_HUGE_PAGE = 2 << 20


def anonymous_memory(size: int) -> tuple[NDArray[np.uint8], int]:
    """Zeroed memory of ``size`` bytes on huge pages where the system gives them, and its address (64-byte aligned)."""
    huge = size >= _HUGE_PAGE
    total = aligned(size) + (_HUGE_PAGE if huge else 64)
    block = mmap.mmap(-1, total)
    array = np.frombuffer(block, np.uint8)
    address = array.ctypes.data
    if huge:
        if hasattr(mmap, "MADV_HUGEPAGE"):
            block.madvise(mmap.MADV_HUGEPAGE)
        address = -(-address // _HUGE_PAGE) * _HUGE_PAGE
    return array, address


class WeightStore:
    """Packed weights of one model by key.

    A planner asks for blocks with ``reserve`` and gets their addresses from ``seal``, which lays out all new ones in
    the order they were asked for: the order in which the kernels will read them.
    """

    def __init__(self) -> None:
        self._addresses: dict[Hashable, int] = {}
        self._new: dict[Hashable, NDArray[Any]] = {}
        self._blocks: list[NDArray[np.uint8]] = []
        self.lock = threading.RLock()
        """Held by a planner from its first ``reserve`` to ``seal``."""
        self.bytes = 0

    def reserve(self, key: Hashable, make: Callable[..., NDArray[Any]], *arguments: Any) -> Hashable:
        """Have the block ``key`` made by ``make(*arguments)`` unless it exists; returns the key."""
        if key not in self._addresses and key not in self._new:
            self._new[key] = np.ascontiguousarray(make(*arguments))
        return key

    def seal(self) -> None:
        """Give every reserved block its address."""
        sizes = [aligned(a.nbytes) for a in self._new.values()]
        if sizes:
            # Kernels prefetch past a panel's end, never load; the spare bytes keep vector loads of a tail inside.
            block, address = anonymous_memory(sum(sizes) + 4096)
            base = block.ctypes.data
            for (key, array), size in zip(self._new.items(), sizes):
                at = address - base
                block[at : at + array.nbytes] = array.reshape(-1).view(np.uint8)
                self._addresses[key] = address
                address += size
            self._blocks.append(block)
            self.bytes += sum(sizes)
        self._new.clear()

    def discard(self) -> None:
        """Forget what was reserved since the last ``seal``."""
        self._new.clear()

    def address(self, key: Hashable) -> int:
        """The address of a sealed block."""
        return self._addresses[key]
