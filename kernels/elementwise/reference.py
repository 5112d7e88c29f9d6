"""The slow, obvious twins of the elementwise kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepcore.kernels.activation.reference import activate


def elementwise(
    operation: str, x: NDArray[Any], extra: NDArray[Any], activation: tuple[int, float, float]
) -> NDArray[np.float64]:
    """``activation(x op extra)`` in float64 for x (pixels, channels) and extra of that shape or (1, channels)."""
    a, b = x.astype(np.float64), extra.astype(np.float64)
    made = {
        "first": lambda: a + np.zeros_like(b),
        "add": lambda: a + b,
        "sub": lambda: a - b,
        "mul": lambda: a * b,
        "div": lambda: a / b,
        "maximum": lambda: np.maximum(a, b),
        "minimum": lambda: np.minimum(a, b),
    }[operation]()
    return activate(made, activation)
