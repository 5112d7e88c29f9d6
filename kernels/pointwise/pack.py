"""Packs pointwise weights into panels: [panel][1 + k][packed columns], the bias as each panel's first row."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sepcore.kernels.pointwise.rows import Tile

Floats = NDArray[np.float32]


def panels(tile: Tile, lanes: int, n: int) -> int:
    """Panels that hold ``n`` output channels."""
    return -(-n // tile.columns(lanes))


def pack(weight: Floats, bias: Floats | None, tile: Tile, lanes: int) -> Floats:
    """Packed panels of a weight matrix.

    Parameters
    ----------
    weight : float32 (n, k), output channel first, as PyTorch has it.
    bias : float32 (n,) or None for zeros.

    Returns
    -------
    float32 (panels * (1 + k) * packed_columns,); columns past n are zero.
    """
    n, k = weight.shape
    columns = tile.columns(lanes)
    count = panels(tile, lanes, n)
    full = np.zeros((1 + k, count * columns), np.float32)
    full[1:, :n] = weight.T
    if bias is not None:
        full[0, :n] = bias
    split = full.reshape(1 + k, count, columns).transpose(1, 0, 2)
    packed = np.zeros((count, 1 + k, tile.packed_columns(lanes)), np.float32)
    packed[:, :, :columns] = split
    if tile.pair:
        packed[:, :, columns:] = split[:, :, tile.vectors * lanes :]
    return packed.ravel()
