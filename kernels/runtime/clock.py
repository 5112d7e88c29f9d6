"""The time, for runs that are measured; it must not know what for."""

from __future__ import annotations

from numba.extending import register_jitable

from sepcore.kernels.runtime import layout
from sepcore.kernels.runtime.prim import call_c
from sepcore.kernels.words import load_word


@register_jitable(error_model="numpy")
def now(pool: int, request: int) -> int:
    """Nanoseconds of the monotonic clock; for the caller whose request it is."""
    time = request + 8 * layout.TIME
    call_c(load_word(pool + 8 * layout.CLOCK_GETTIME), load_word(pool + 8 * layout.CLOCK_ID), time, 0)
    seconds: int = load_word(time)
    nanoseconds: int = load_word(time + 8)
    return seconds * 1_000_000_000 + nanoseconds
