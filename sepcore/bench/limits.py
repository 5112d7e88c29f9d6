"""Measures what one thread of this machine can do at most; it must not know networks."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sepcore.compile import kernels_for
from sepcore.kernels.isa import Isa
from sepcore.kernels.limits import rows

Clock = Callable[[], int]
"""Nanoseconds since some moment, as ``time.perf_counter_ns``."""

_SHORTEST_NS = 2_000_000  # of one timed call: far above the clock's resolution and the cost of a call
_REPEATS = 15
_MIB = 1 << 20
_USUAL_CACHES = {"L1": 32 << 10, "L2": _MIB // 2, "L3": 8 * _MIB}
_MEMORY_BYTES = (128 * _MIB, 1024 * _MIB)  # least and most to read where memory, and no cache, is meant
_PAGE = 4096


@dataclass(frozen=True)
class Bandwidth:
    """How fast one thread reads ``size`` bytes over and over: from a cache where they fit, else from memory."""

    level: str
    size: int
    gigabytes_per_second: float


@dataclass(frozen=True)
class Limits:
    """What one thread can do at most.

    Attributes
    ----------
    fma_gflops : float32 multiply-adds in registers, each counted as two operations, in 10^9 per second.
    """

    isa: str
    fma_gflops: float
    bandwidths: tuple[Bandwidth, ...] = ()


def measure_limits(isa: Isa, cache_dir: Path | None = None, clock: Clock = time.perf_counter_ns) -> Limits:
    """The multiply-add peak of one thread, and its bandwidths of reading.

    Raises
    ------
    CompileError : the loops cannot be compiled or loaded.
    """
    levels = tuple(measure_bandwidth(isa, name, size, cache_dir, clock) for name, size in working_sets(cache_sizes()))
    return Limits(isa.name, measure_peak(isa, cache_dir, clock), levels)


def measure_peak(isa: Isa, cache_dir: Path | None = None, clock: Clock = time.perf_counter_ns) -> float:
    """GFLOP/s of one thread that multiplies and adds in registers."""
    fma_peak = _native(isa, "fma_peak", 3, cache_dir)
    # x -> x / 2 + 1 stays between its start and 2: no overflow, no denormal, whose speed differs on some CPUs.
    constants = np.array([0.5, 1.0], np.float32)
    result = _result(isa)
    per_second = best_rate(lambda n: fma_peak(n, constants.ctypes.data, result.ctypes.data), clock)
    return per_second * rows.flops(isa) / 1e9


def measure_bandwidth(
    isa: Isa, level: str, size: int, cache_dir: Path | None = None, clock: Clock = time.perf_counter_ns
) -> Bandwidth:
    """GB/s at which one thread reads ``size`` bytes again and again; a multiple of 4096."""
    read_memory = _native(isa, "read_memory", 4, cache_dir)
    # Written, since pages that never were are all the same page of zeros.
    memory: NDArray[np.float32] = np.ones(size // 4, np.float32)
    result = _result(isa)
    per_second = best_rate(lambda n: read_memory(memory.ctypes.data, size, n, result.ctypes.data), clock)
    return Bandwidth(level, size, per_second * size / 1e9)


def best_rate(call: Callable[[int], object], clock: Clock) -> float:
    """Iterations per second of ``call(iterations)``: the best of some repeats, for a limit is what can be reached."""
    count = 1
    while _elapsed(call, count, clock) < _SHORTEST_NS:
        count *= 2
    return count * 1e9 / min(_elapsed(call, count, clock) for _ in range(_REPEATS))


def _elapsed(call: Callable[[int], object], count: int, clock: Clock) -> int:
    start = clock()
    call(count)
    return clock() - start


def cache_sizes(folder: Path = Path("/sys/devices/system/cpu/cpu0/cache")) -> dict[str, int]:
    """Bytes of the first CPU's data caches by level as Linux tells them; usual sizes where nothing does."""
    found = {}
    for index in sorted(folder.glob("index*")):
        try:
            kind, level, size = ((index / name).read_text("ascii").strip() for name in ("type", "level", "size"))
        except OSError:
            continue
        if kind != "Instruction" and size.endswith("K") and size[:-1].isdigit():
            found[f"L{level}"] = int(size[:-1]) << 10
    return found or dict(_USUAL_CACHES)


def working_sets(caches: dict[str, int]) -> list[tuple[str, int]]:
    """What to read for each cache, half of it, and for memory, four times the largest within bounds; in bytes.

    The last cache is often shared with other cores or machines, so its part is at most four times the cache before.
    """
    sets: list[tuple[str, int]] = []
    for level, size in sorted(caches.items()):
        half = size // 2
        if sets and level == "L3":
            half = min(half, 8 * sets[-1][1])
        sets.append((level, max(_PAGE, half // _PAGE * _PAGE)))
    least, most = _MEMORY_BYTES
    return [*sets, ("memory", min(max(4 * max(caches.values()), least), most) // _PAGE * _PAGE)]


def _native(isa: Isa, name: str, arity: int, cache_dir: Path | None) -> Callable[..., None]:
    spec = rows.find(f"{name}__{isa.name}")
    address = kernels_for([spec], isa.name, cache_dir=cache_dir, registry=rows.__name__)[spec.name]
    function: Callable[..., None] = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * arity)(address)
    return function


def _result(isa: Isa) -> NDArray[np.float32]:
    return np.zeros(rows.result_bytes(isa) // 4, np.float32)
