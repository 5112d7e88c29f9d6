"""Packed weights: each made once, kept in execution order in large blocks that every program of a model shares."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator, Mapping
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sepcore.plan.pages import SPARE_BYTES, aligned, anonymous_memory

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sepcore.formats.sep_manifest import PackedWeights


class Place(NamedTuple):
    """Where a block is: ``offset`` bytes into a region of its store."""

    region: int
    offset: int


class Region(NamedTuple):
    """Memory that holds blocks one after another, each at a multiple of 64 bytes, then SPARE_BYTES of zeros."""

    address: int
    content: NDArray[np.uint8]


def portable_key(key: Hashable) -> str:
    """A block's key as a file has it: 32 hexadecimal digits."""
    return sha256(repr(key).encode("utf-8")).hexdigest()[:32]


def _raw(array: NDArray[Any]) -> NDArray[np.uint8]:
    return array.reshape(-1).view(np.uint8)


class WeightStore:
    """Packed weights of one model by key.

    A planner asks for blocks with ``reserve`` and gets their places from ``seal``, which lays out all new ones in one
    region, in the order they were asked for: the order in which the kernels will read them.

    Parameters
    ----------
    kept : weights that were packed before, perhaps by another version of sepcore or an enemy: a block of them is taken
        instead of a new one where the two are equal.

    Attributes
    ----------
    bytes : in use.
    repacked : of them, those of weights that ``kept`` has not, or has otherwise.
    """

    def __init__(self, kept: PackedWeights | None = None) -> None:
        self._kinds: dict[Hashable, tuple[int, bool]] = {}
        self._places: dict[Hashable, Place] = {}
        self._new: dict[Hashable, NDArray[Any]] = {}
        self._kept = kept
        self._regions = [] if kept is None else [Region(kept.content.ctypes.data, kept.content)]
        self.lock = threading.RLock()
        """Held by a planner from its first ``reserve`` to ``seal``."""
        self.bytes = 0
        self.repacked = 0

    def reserve(self, key: Hashable, make: Callable[..., NDArray[Any]], *arguments: Any) -> Hashable:
        """Have the block ``key`` made by ``make(*arguments)`` unless it exists; returns the key."""
        if key not in self._places and key not in self._new:
            self._new[key] = np.ascontiguousarray(make(*arguments))
        return key

    def seal(self) -> None:
        """Give every reserved block its place."""
        unplaced = {}
        for key, array in self._new.items():
            self._kinds[key] = array.nbytes, array.dtype == np.float32
            self.bytes += aligned(array.nbytes)
            offset = self._kept_at(key, array)
            if offset is None:
                unplaced[key] = array
            else:
                self._places[key] = Place(0, offset)
        if unplaced:
            self._add_region(unplaced)
        self._new.clear()

    def _kept_at(self, key: Hashable, array: NDArray[Any]) -> int | None:
        """Where an equal block was kept."""
        if self._kept is None or array.dtype != np.float32:
            return None
        offset, size = self._kept.blocks.get(portable_key(key), (0, 0))
        if np.array_equal(self._kept.content[offset : offset + size], _raw(array)):
            return offset
        self.repacked += array.nbytes
        return None

    def _add_region(self, arrays: Mapping[Hashable, NDArray[Any]]) -> None:
        size = sum(aligned(array.nbytes) for array in arrays.values()) + SPARE_BYTES
        memory, address = anonymous_memory(size)
        first = address - memory.ctypes.data
        content = memory[first : first + size]
        offset = 0
        for key, array in arrays.items():
            content[offset : offset + array.nbytes] = _raw(array)
            self._places[key] = Place(len(self._regions), offset)
            offset += aligned(array.nbytes)
        self._regions.append(Region(address, content))

    def discard(self) -> None:
        """Forget what was reserved since the last ``seal``."""
        self._new.clear()

    def place(self, key: Hashable) -> Place:
        """Where a sealed block is."""
        return self._places[key]

    def size(self, key: Hashable) -> int:
        """Bytes of a sealed block."""
        return self._kinds[key][0]

    def floats(self) -> Iterator[tuple[Hashable, NDArray[np.uint8]]]:
        """The sealed blocks of weights, in the order they were asked for; no tables, which native code trusts."""
        for key, (region, offset) in self._places.items():
            size, is_float = self._kinds[key]
            if is_float:
                yield key, self._regions[region].content[offset : offset + size]

    @property
    def regions(self) -> tuple[Region, ...]:
        """The memory that places are counted in; ``kept`` first, where there is one."""
        return tuple(self._regions)

    @property
    def addresses(self) -> tuple[int, ...]:
        """Those of the regions."""
        return tuple(region.address for region in self._regions)
