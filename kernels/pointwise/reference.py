"""The slow, obvious twin of the pointwise kernel."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepcore.kernels.activation.reference import activate


def pointwise(
    x: NDArray[Any],
    weight: NDArray[Any],
    bias: NDArray[Any],
    activation: tuple[int, float, float],
    residual: NDArray[Any] | None = None,
) -> NDArray[np.float64]:
    """``activation(x @ weight.T + bias + residual)`` in float64 for x (m, k), weight (n, k), residual (m, n)."""
    out = x.astype(np.float64) @ weight.astype(np.float64).T + bias
    if residual is not None:
        out = out + residual
    return activate(out, activation)
