"""The one place that hands Python functions to Numba: compiler options and signatures.

It knows no operator, and importing it imports no numba: that happens when a function is wrapped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

# No fastmath: kernels ask for fused multiply-adds where they want them, so results do not depend on the compiler.
# error_model "numpy": division by zero gives a value; a kernel has no way to raise.
OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "boundscheck": False}


def range_kernel(function: Callable[..., Any], arity: int = 4) -> Any:
    """``function`` compiled now for ``arity`` int64 arguments, callable from Python and from other Numba code."""
    from numba import njit, types

    return njit((types.int64,) * arity, **OPTIONS)(function)


def array_function(function: Callable[..., Any]) -> Any:
    """``function`` compiled at its first call for the arrays it is given; its ``prange`` loops run on all threads."""
    from numba import njit

    return njit(parallel=True, **OPTIONS)(function)
