"""Lays buffers out in one arena so that buffers which are never alive together may share memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sepcore.plan.pages import aligned

_GAP = 64  # one line between neighbours keeps equal-sized maps off the same cache sets


class Lifetime(NamedTuple):
    """A buffer of ``size`` bytes, alive from step ``first`` to step ``last`` inclusive."""

    size: int
    first: int
    last: int


def lay_out(lifetimes: Sequence[Lifetime]) -> tuple[list[int], int]:
    """Offsets of the buffers and the size of the arena.

    Greedy by size, each at the lowest offset free over its whole life (Pisarchyk and Lee, "Efficient Memory
    Management for Deep Neural Net Inference", 2020, section 5.2).
    """
    offsets = [0] * len(lifetimes)
    placed: list[int] = []
    for i in sorted(range(len(lifetimes)), key=lambda i: (-lifetimes[i].size, lifetimes[i].first)):
        mine = lifetimes[i]
        at = 0
        rivals = [j for j in placed if lifetimes[j].first <= mine.last and mine.first <= lifetimes[j].last]
        for j in sorted(rivals, key=lambda j: offsets[j]):
            if at + aligned(mine.size) + _GAP <= offsets[j]:
                break
            at = max(at, offsets[j] + aligned(lifetimes[j].size) + _GAP)
        offsets[i] = at
        placed.append(i)
    return offsets, max((offsets[i] + aligned(lifetimes[i].size) + _GAP for i in placed), default=0)
