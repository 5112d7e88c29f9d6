"""Packs pointwise weights for Strassen's seven products: [panel][2 + 7 k][packed columns], k that of a half."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sepcore.kernels.pointwise import pack as pointwise
from sepcore.kernels.pointwise.rows import Tile

Floats = NDArray[np.float32]


def pack(weight: Floats, bias: Floats | None, tile: Tile, lanes: int) -> Floats:
    """Packed panels of a weight matrix.

    Parameters
    ----------
    weight : float32 (n, k), output channel first, as PyTorch has it; k and n are even, and a tile's columns divide
        n / 2.
    bias : float32 (n,) or None for zeros.

    Returns
    -------
    float32 (panels * (2 + 7 * k / 2) * packed_columns,): in each panel the bias of its columns in either half, then
    what the tile multiplies in the order of its products.
    """
    n, k = weight.shape
    biases = np.zeros((2, n // 2), np.float32) if bias is None else bias.reshape(2, n // 2)
    b11, b12, b21, b22 = (weight.T[i : i + k // 2, j : j + n // 2] for i in (0, k // 2) for j in (0, n // 2))
    t1 = b12 - b11
    t2 = b22 - t1
    rows = np.concatenate([biases[1], *(b11, b21, t2, b22 - b12, b21 - t2, t1, b22)], axis=None)
    return pointwise.pack(rows.reshape(-1, n // 2).T, biases[0], tile, lanes)
