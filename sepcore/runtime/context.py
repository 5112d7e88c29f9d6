"""The memory of one call in flight: an arena, and a program's words with real addresses; it must not plan or compile.

A context is used by one call at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from sepcore.plan.pages import anonymous_memory
from sepcore.runtime.linked import INPUT, Linked


class Context:
    """One program's words and arena.

    Parameters
    ----------
    addresses : of the kernels, by name.
    regions : addresses of the regions of packed weights; there may be more than the program reads.

    Attributes
    ----------
    request : address of the request that runs the program.
    """

    def __init__(self, linked: Linked, addresses: Mapping[str, int], regions: Sequence[int]) -> None:
        self._arena, arena = anonymous_memory(linked.arena_bytes)
        self._memory, self.request = anonymous_memory(linked.words.nbytes)
        first = self.request - self._memory.ctypes.data
        words = self._memory[first : first + linked.words.nbytes].view(np.int64)
        words[:] = linked.words
        kernels = [addresses[name] for name in linked.kernels]
        bases = np.array([self.request, arena, *regions[: linked.regions], *kernels], np.int64)
        at, base = linked.relocations.T
        words[at] += bases[base]
        self._arguments = [(at, direction, index, int(words[at])) for at, direction, index in linked.arguments.tolist()]
        self._words = words.data  # a memoryview, whose elements take a third of an array's time to set

    def point_at(self, inputs: Sequence[int], outputs: Sequence[int]) -> None:
        """Set the addresses of the caller's arrays."""
        for at, direction, index, offset in self._arguments:
            self._words[at] = (inputs if direction == INPUT else outputs)[index] + offset
