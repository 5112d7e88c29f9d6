"""The least time that a step can take on this machine, from its measured limits; it measures nothing.

The roofline model (Williams, Waterman and Patterson, 2009): a step takes as long as its multiply-adds at the peak, or
as long as its memory traffic where that is longer. What is written counts like what is read, though it is slower.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sepcore.bench.limits import Limits
from sepcore.kernels.crossed import rows as crossed
from sepcore.kernels.winograd import rows as winograd
from sepcore.plan.program import Program, Step

ARITHMETIC = "multiply-adds"

_FEWER_PRODUCTS = {rows.NAME: (rows.PRODUCTS, rows.PLAIN_PRODUCTS) for rows in (crossed, winograd)}
"""Beginnings of the names of kernels that do fewer multiply-adds than their layers have: how many, of how many."""


@dataclass(frozen=True)
class Bound:
    """The least nanoseconds of a step, and what takes them: ``multiply-adds``, or the level its traffic comes from."""

    nanoseconds: float
    by: str


@dataclass(frozen=True)
class Roofline:
    """What bounds the steps of one program.

    Attributes
    ----------
    limits : of one thread.
    caches : level -> bytes of a core's, the first level first.
    """

    program: Program
    limits: Limits
    caches: Mapping[str, int]

    def bound(self, step: Step) -> Bound:
        """The bound of a step.

        Its maps come from the first cache that holds what a thread reads and writes of them: they were just written.
        Its weights were last read in the call before: they come from the level that holds the whole program.
        """
        threads = self.program.threads
        weights = sum(s.weight_bytes for s in self.program.steps) + self.program.private_bytes
        maps_from, weights_from = self._level(step.map_bytes // threads), self._level(weights)
        parts = {
            ARITHMETIC: 2 * _multiply_adds(step) / (self.limits.fma_gflops * threads),
            maps_from: step.map_bytes / self._gigabytes_per_second(maps_from),
        }
        traffic = parts[maps_from] + step.weight_bytes / self._gigabytes_per_second(weights_from)
        slowest = maps_from if 2 * parts[maps_from] >= traffic else weights_from
        return Bound(traffic, slowest) if traffic > parts[ARITHMETIC] else Bound(parts[ARITHMETIC], ARITHMETIC)

    def _level(self, size: int) -> str:
        fitting = (name for name, capacity in self.caches.items() if size <= capacity)
        return next(fitting, self.limits.bandwidths[-1].level)

    def _gigabytes_per_second(self, level: str) -> float:
        """Of all threads; memory is shared by them, caches are taken as each core's own."""
        (found,) = (b.gigabytes_per_second for b in self.limits.bandwidths if b.level == level)
        return found if level == self.limits.bandwidths[-1].level else found * self.program.threads


def _multiply_adds(step: Step) -> int:
    """Those that the step does: algorithms with fewer products than the layer has are given theirs."""
    layers = {(row.node, row.kernel): row for run in step.chain for row in run}.values() or (step,)
    return sum(_done(layer.kernel, layer.macs) for layer in layers)


def _done(kernel: str, macs: int) -> int:
    products = (share for name, share in _FEWER_PRODUCTS.items() if kernel.startswith(name))
    done, plain = next(products, (1, 1))
    return macs * done // plain
