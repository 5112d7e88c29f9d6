"""Depthwise, pointwise and companion kernels for CPUs, written with Numba; installed as ``sepcore.kernels``.

Kernels know arrays, addresses and integers, never graphs, and import nothing from the rest of sepcore.
Importing this package compiles nothing and imports neither numba nor llvmlite.
"""

from __future__ import annotations

from typing import Any

__all__ = ["depthwise_conv2d", "pointwise_conv2d"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from sepcore.kernels import arrays

        return getattr(arrays, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
