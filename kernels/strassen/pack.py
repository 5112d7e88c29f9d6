"""Packs pointwise weights for Strassen's seven products: [panel][2 + 7 k][packed columns], k that of a half."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sepcore.kernels.pointwise import pack as pointwise
from sepcore.kernels.pointwise.rows import Tile
from sepcore.kernels.strassen import sums

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
    half = weight.shape[1] // 2
    panels = quarters(weight, bias, tile, lanes).reshape(-1, 2 + 7 * half, tile.packed_columns(lanes))
    return sums.add_up(panels, half).reshape(-1)


def quarters(weight: Floats, bias: Floats | None, tile: Tile, lanes: int) -> Floats:
    """The same before anything is added: B11, B21, B12 in the place of T1, B22, and zeros for the other products."""
    n, k = weight.shape
    biases = np.zeros((2, n // 2), np.float32) if bias is None else bias.reshape(2, n // 2)
    b11, b12, b21, b22 = (weight.T[i : i + k // 2, j : j + n // 2] for i in (0, k // 2) for j in (0, n // 2))
    products = np.zeros((7, k // 2, n // 2), np.float32)
    products[[sums.B11, sums.B21, sums.T1, sums.B22]] = b11, b21, b12, b22
    rows = np.concatenate([biases[1:], products.reshape(-1, n // 2)])
    return pointwise.pack(rows.T, biases[0], tile, lanes)
