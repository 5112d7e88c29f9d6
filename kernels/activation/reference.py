"""The slow, obvious twins of the activations."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepcore.kernels.activation import codes


def activate(x: NDArray[Any], activation: tuple[int, float, float]) -> NDArray[np.float64]:
    """Activation (code, p, q) of ``x`` in float64."""
    code, p, q = activation
    x = x.astype(np.float64)
    if code == codes.LINEAR:
        return x
    if code == codes.CLAMP:
        return np.clip(x, p, q)
    if code == codes.LEAKY_RELU:
        return np.where(x > 0, x, x * p)
    if code == codes.HARDSWISH:
        return x * np.clip(x + 3, 0, 6) / 6
    if code == codes.HARDSIGMOID:
        return np.clip(x * p + q, 0, 1)
    if code == codes.SILU:
        return x / (1 + np.exp(-x))
    if code == codes.SIGMOID:
        return 1 / (1 + np.exp(-x))
    raise ValueError(f"activation code {code}: unknown")
