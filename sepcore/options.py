"""Session options and every SEPCORE_* environment variable; no other file of this package reads the environment.

The one exception is SEPCORE_CPU_ISA, which ``sepcore.kernels.isa`` reads: the kernels import nothing from here.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sepcore.errors import OptionError

if TYPE_CHECKING:
    from pathlib import Path

PRECISIONS = ("fp32",)
THREADINGS = ("pool", "prange")


@dataclass(frozen=True)
class SessionOptions:
    """What a user may choose when a model is opened.

    Attributes
    ----------
    num_threads : threads that one call may use; None takes SEPCORE_NUM_THREADS, else the CPUs this process may use.
    precision : arithmetic; only what is asked for is ever used.
    cache_dir : where compiled kernels are kept; None takes SEPCORE_CACHE_DIR, else the user's cache folder.
    threading : who shares a call: "pool", threads of our own, or "prange", those of Numba's threading layer.
    """

    num_threads: int | None = None
    precision: str = "fp32"
    cache_dir: Path | None = field(default=None)
    threading: str = "pool"

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise OptionError(f"precision: expected one of {', '.join(PRECISIONS)}, found {self.precision!r}")
        if self.threading not in THREADINGS:
            raise OptionError(f"threading: expected one of {', '.join(THREADINGS)}, found {self.threading!r}")
        if self.num_threads is not None and (type(self.num_threads) is not int or self.num_threads < 1):
            raise OptionError(f"num_threads: expected an integer of at least 1, found {self.num_threads!r}")


def _variable(name: str) -> str | None:
    return os.environ.get(name) or None


def _folder(name: str) -> Path | None:
    from pathlib import Path

    text = _variable(name)
    return Path(text).expanduser() if text else None


def env_num_threads() -> int | None:
    """SEPCORE_NUM_THREADS as a count, or None where it is not set."""
    text = _variable("SEPCORE_NUM_THREADS")
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise OptionError(f"SEPCORE_NUM_THREADS: expected an integer of at least 1, found {text!r}")
    return int(text)


def env_cache_dir() -> Path | None:
    """SEPCORE_CACHE_DIR: where compiled kernels and fetched weights are kept."""
    return _folder("SEPCORE_CACHE_DIR")


def env_prebuilt_cache_dir() -> Path | None:
    """SEPCORE_PREBUILT_CACHE_DIR: a read-only folder of compiled kernels that is searched first."""
    return _folder("SEPCORE_PREBUILT_CACHE_DIR")


def env_weights_url() -> str | None:
    """SEPCORE_WEIGHTS_URL: base address of a mirror for named weights."""
    return _variable("SEPCORE_WEIGHTS_URL")
