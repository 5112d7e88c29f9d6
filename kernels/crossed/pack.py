"""Packs pointwise weights for crossed products: [panel][3 + 3 third][columns]."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sepcore.kernels.crossed.balance import BIAS, HEAD_ROWS, balance
from sepcore.kernels.crossed.rows import panel_rows, third

Floats = NDArray[np.float32]


def pack(weight: Floats, bias: Floats | None, lanes: int) -> Floats:
    """Packed panels of a weight matrix.

    Parameters
    ----------
    weight : float32 (n, k), output channel first, as PyTorch has it.
    bias : float32 (n,) or None for zeros.

    Returns
    -------
    float32 (panels * (3 + 3 * third(k)) * lanes,), as ``balance`` leaves it; columns past n are zero.
    """
    return balance(arranged(weight, bias, lanes).reshape(-1, panel_rows(weight.shape[1]), lanes)).ravel()


def arranged(weight: Floats, bias: Floats | None, lanes: int) -> Floats:
    """The same before anything is scaled: bias and weights in their places, and zeros."""
    n, k = weight.shape
    triples, columns = third(k), -(-n // lanes) * lanes
    full = np.zeros((3 * triples, columns), np.float32)
    full[:k, :n] = weight.T
    packed = np.zeros((HEAD_ROWS + 3 * triples, columns), np.float32)
    if bias is not None:
        packed[BIAS, :n] = bias
    packed[HEAD_ROWS:] = full.reshape(3, triples, columns).swapaxes(0, 1).reshape(3 * triples, columns)
    return np.ascontiguousarray(packed.reshape(len(packed), -1, lanes).swapaxes(0, 1)).ravel()
