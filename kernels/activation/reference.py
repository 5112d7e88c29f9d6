"""The slow, obvious twins of the activations."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepcore.kernels.activation import codes


def activate(x: NDArray[Any], activation: tuple[int, float, float]) -> NDArray[Any]:
    """Activation (code, p, q) of ``x`` in float64."""
    code, p, q = activation
    x = x.astype(np.float64)
    made = {
        codes.LINEAR: lambda: x,
        codes.CLAMP: lambda: np.clip(x, p, q),
        codes.LEAKY_RELU: lambda: np.where(x > 0, x, x * p),
        codes.HARDSWISH: lambda: x * np.clip(x + 3, 0, 6) / 6,
        codes.HARDSIGMOID: lambda: np.clip(x * p + q, 0, 1),
        codes.SILU: lambda: x / (1 + np.exp(-x)),
        codes.DIVIDED_SILU: lambda: x / (1 + np.exp(-x)),
        codes.SIGMOID: lambda: 1 / (1 + np.exp(-x)),
    }
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(made[code]())
