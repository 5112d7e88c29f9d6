"""Packed weights: each made once, kept in execution order in large blocks that every program of a model shares."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sepcore.plan.pages import SPARE_BYTES, aligned, anonymous_memory

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Place(NamedTuple):
    """Where a block is: ``offset`` bytes into a region of its store."""

    region: int
    offset: int


class Region(NamedTuple):
    """Memory that holds blocks one after another, each at a multiple of 64 bytes, then SPARE_BYTES of zeros."""

    address: int
    content: NDArray[np.uint8]


class WeightStore:
    """Packed weights of one model by key.

    A planner asks for blocks with ``reserve`` and gets their places from ``seal``, which lays out all new ones in one
    region, in the order they were asked for: the order in which the kernels will read them.
    """

    def __init__(self) -> None:
        self._places: dict[Hashable, Place] = {}
        self._sizes: dict[Hashable, int] = {}
        self._new: dict[Hashable, NDArray[Any]] = {}
        self._regions: list[Region] = []
        self.lock = threading.RLock()
        """Held by a planner from its first ``reserve`` to ``seal``."""
        self.bytes = 0

    def reserve(self, key: Hashable, make: Callable[..., NDArray[Any]], *arguments: Any) -> Hashable:
        """Have the block ``key`` made by ``make(*arguments)`` unless it exists; returns the key."""
        if key not in self._places and key not in self._new:
            self._new[key] = np.ascontiguousarray(make(*arguments))
        return key

    def seal(self) -> None:
        """Give every reserved block its place."""
        size = sum(aligned(array.nbytes) for array in self._new.values())
        if size:
            memory, address = anonymous_memory(size + SPARE_BYTES)
            first = address - memory.ctypes.data
            content = memory[first : first + size + SPARE_BYTES]
            offset = 0
            for key, array in self._new.items():
                content[offset : offset + array.nbytes] = array.reshape(-1).view(np.uint8)
                self._places[key] = Place(len(self._regions), offset)
                self._sizes[key] = array.nbytes
                offset += aligned(array.nbytes)
            self._regions.append(Region(address, content))
            self.bytes += size
        self._new.clear()

    def discard(self) -> None:
        """Forget what was reserved since the last ``seal``."""
        self._new.clear()

    def place(self, key: Hashable) -> Place:
        """Where a sealed block is."""
        return self._places[key]

    def size(self, key: Hashable) -> int:
        """Bytes of a sealed block."""
        return self._sizes[key]

    @property
    def addresses(self) -> tuple[int, ...]:
        """Those of the regions that places are counted in."""
        return tuple(region.address for region in self._regions)
