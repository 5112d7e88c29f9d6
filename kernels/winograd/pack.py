"""Packs weights of 3x3 convolutions for blocks of 2x2 outputs: [panel][1 + 25 k][columns], the bias first."""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray

from sepcore.kernels.conv import dense
from sepcore.kernels.pointwise.rows import Tile

Floats = NDArray[np.float32]

# What each difference of one direction is multiplied with: of g0, g1 and g2.
_SUMS = {"C": ((1, 0, 1),), "A": ((1, 0, 0), (0, 1, 0)), "B": ((0, 0, 1), (0, 1, 0))}


def pack(weight: Floats, bias: Floats | None, tile: Tile, lanes: int) -> Floats:
    """Packed panels.

    Parameters
    ----------
    weight : float32 (oc, ic, 3, 3), as PyTorch has it.
    bias : float32 (oc,) or None for zeros.

    Returns
    -------
    float32 (panels * (1 + 25 ic) * columns,): sums of weights, added up in float64, in the order in which the tile
    multiplies: of CC, CA, CB, AC, AA, AB, BC, BA and BB, the first letter for rows, and in each all of its rows' with
    all of its columns'.
    """
    pairs = [(y, x) for rows, columns in product("CAB", repeat=2) for y in _SUMS[rows] for x in _SUMS[columns]]
    ys, xs = (np.array([pair[i] for pair in pairs], np.float64) for i in (0, 1))
    sums = np.einsum("py,px,oiyx->oip", ys, xs, weight.astype(np.float64)).astype(np.float32)
    return dense.pack(sums[..., None], bias, 1, tile, lanes)
