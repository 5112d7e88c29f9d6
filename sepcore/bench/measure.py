"""Loops that time calls fairly, in turns, and what is said about the times; it must not know what is timed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

Clock = Callable[[], int]
"""Nanoseconds since some moment, as ``time.perf_counter_ns``."""


@dataclass(frozen=True)
class Round:
    """How one turn is measured.

    Attributes
    ----------
    runs : timed calls, or fewer where they take longer than ``seconds`` together; one at least.
    pause : seconds to sleep before each call, as a service that waits for requests does.
    """

    runs: int
    seconds: float
    pause: float = 0.0


class Timed(Protocol):
    """Something that can be called and timed in rounds, here or in another process."""

    def round(self, order: Round) -> list[int]:
        """Nanoseconds of each timed call."""


@dataclass(frozen=True)
class Times:
    """What is said about the times of many calls, in milliseconds; percentiles lie on or between measured times."""

    runs: int
    median: float
    least: float
    p90: float
    p99: float

    @staticmethod
    def of(nanoseconds: Sequence[int]) -> Times:
        """The summary of at least one time."""
        times = np.asarray(nanoseconds, np.float64) / 1e6
        median, p90, p99 = (float(p) for p in np.percentile(times, (50, 90, 99)))
        return Times(len(times), median, float(times.min()), p90, p99)


def take_turns(timed: Mapping[str, Timed], order: Round, rounds: int) -> dict[str, list[int]]:
    """Nanoseconds of the calls of each, in rounds in which one after another is timed as ``order`` says.

    A change of the machine's speed thus meets all alike; and each round starts with another one, so that none always
    follows the same.
    """
    names = list(timed)
    found: dict[str, list[int]] = {name: [] for name in names}
    for i in range(rounds):
        first = i % max(1, len(names))
        for name in names[first:] + names[:first]:
            found[name] += timed[name].round(order)
    return found


def time_sequence(calls: Sequence[Callable[[], object]], passes: int, clock: Clock = time.perf_counter_ns) -> list[int]:
    """The median nanoseconds of each call, where ``passes`` times all are made in their order.

    Each call then finds the caches as its predecessors leave them. One pass before is not counted.
    """
    times = np.zeros((passes + 1, len(calls)), np.int64)
    for row in times:
        for i, call in enumerate(calls):
            start = clock()
            call()
            row[i] = clock() - start
    return [int(t) for t in np.median(times[1:], axis=0)]
