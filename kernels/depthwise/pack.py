"""Packs depthwise weights: [channels / lanes][1 + kh * kw][lanes], the bias first."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def pack(weight: Floats, bias: Floats | None, lanes: int) -> Floats:
    """Packed weights; channels past the last are zero.

    Parameters
    ----------
    weight : float32 (channels, 1, kh, kw), as PyTorch has it.
    bias : float32 (channels,) or None for zeros.
    """
    channels, _, kh, kw = weight.shape
    taps = kh * kw
    groups = -(-channels // lanes)
    full = np.zeros((1 + taps, groups * lanes), np.float32)
    full[1:, :channels] = weight.reshape(channels, -1).T
    if bias is not None:
        full[0, :channels] = bias
    return np.ascontiguousarray(full.reshape(1 + taps, groups, lanes).transpose(1, 0, 2)).ravel()
