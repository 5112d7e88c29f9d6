"""The slow, obvious twin of the depthwise kernel."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepcore.kernels.activation.reference import activate


def depthwise(
    x: NDArray[Any],
    weight: NDArray[Any],
    bias: NDArray[Any],
    stride: int,
    padding: tuple[int, int, int, int],
    activation: tuple[int, float, float],
) -> NDArray[np.float64]:
    """x (h, w, c), weight (c, 1, size, size), bias (c,), padding (top, left, bottom, right); float64 (oh, ow, c)."""
    top, left, bottom, right = padding
    size = weight.shape[-1]
    padded = np.pad(x.astype(np.float64), ((top, bottom), (left, right), (0, 0)))
    height = (padded.shape[0] - size) // stride + 1
    width = (padded.shape[1] - size) // stride + 1
    out = np.zeros((height, width, x.shape[2])) + bias
    for i in range(size):
        for j in range(size):
            taps = padded[i : i + height * stride : stride, j : j + width * stride : stride]
            out += taps[:height, :width] * weight[:, 0, i, j]
    return activate(out, activation)
