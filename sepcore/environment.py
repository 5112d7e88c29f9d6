"""Every SEPCORE_* environment variable; no other file of this package reads the environment.

The one exception is SEPCORE_CPU_ISA, which ``sepcore.kernels.isa`` reads: the kernels import nothing from here.
"""

from __future__ import annotations

import os

from sepcore.errors import OptionError


def _variable(name: str) -> str | None:
    return os.environ.get(name) or None


def _folder(name: str) -> str | None:
    text = _variable(name)
    return os.path.expanduser(text) if text else None


def env_num_threads() -> int | None:
    """SEPCORE_NUM_THREADS as a count, or None where it is not set."""
    text = _variable("SEPCORE_NUM_THREADS")
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise OptionError(f"SEPCORE_NUM_THREADS: expected an integer of at least 1, found {text!r}")
    return int(text)


def env_cache_dir() -> str | None:
    """SEPCORE_CACHE_DIR: where compiled kernels and fetched weights are kept."""
    return _folder("SEPCORE_CACHE_DIR")


def env_prebuilt_cache_dir() -> str | None:
    """SEPCORE_PREBUILT_CACHE_DIR: a read-only folder of compiled kernels that is searched first."""
    return _folder("SEPCORE_PREBUILT_CACHE_DIR")


def env_weights_url() -> str | None:
    """SEPCORE_WEIGHTS_URL: base address of a mirror for named weights."""
    return _variable("SEPCORE_WEIGHTS_URL")
