"""What a user may choose when a model is opened; it must not read the environment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sepcore.errors import OptionError

if TYPE_CHECKING:
    from pathlib import Path

PRECISIONS = ("fp32",)
THREADINGS = ("pool", "prange")


class SessionOptions:
    """What a user may choose when a model is opened; never changed afterwards.

    No dataclass: importing what makes one would be a twentieth of a start.

    Attributes
    ----------
    num_threads : threads that one call may use; None takes SEPCORE_NUM_THREADS, else the CPUs this process may use.
    precision : arithmetic; only what is asked for is ever used.
    cache_dir : where compiled kernels are kept; None takes SEPCORE_CACHE_DIR, else the user's cache folder.
    threading : who shares a call: "pool", threads of our own, or "prange", those of Numba's threading layer.
    """

    def __init__(
        self,
        num_threads: int | None = None,
        precision: str = "fp32",
        cache_dir: Path | None = None,
        threading: str = "pool",
    ) -> None:
        self.num_threads, self.precision, self.cache_dir, self.threading = num_threads, precision, cache_dir, threading
        if self.precision not in PRECISIONS:
            raise OptionError(f"precision: expected one of {', '.join(PRECISIONS)}, found {self.precision!r}")
        if self.threading not in THREADINGS:
            raise OptionError(f"threading: expected one of {', '.join(THREADINGS)}, found {self.threading!r}")
        if self.num_threads is not None and (type(self.num_threads) is not int or self.num_threads < 1):
            raise OptionError(f"num_threads: expected an integer of at least 1, found {self.num_threads!r}")
