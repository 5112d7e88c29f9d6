"""The sums of a weight matrix's quarters, in place, by NumPy alone: a frozen network adds them up when it is opened."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

B11, B21, T2, T3, T4, T1, B22 = range(7)
"""The products' places in a panel, in the order in which a tile multiplies."""


def add_up(packed: NDArray[np.float32], half: int) -> NDArray[np.float32]:
    """Packed panels with the sums in their places, where the quarters stand in theirs and B12 in that of T1.

    Parameters
    ----------
    packed : float32 (panels, 2 + 7 * half, columns), changed in place: the bias in either half, then ``half`` rows of
        each product.
    """
    rows = packed[:, 2:].reshape(len(packed), 7, half, -1)
    b11, b21, t2, t3, t4, t1, b22 = rows.swapaxes(0, 1)
    np.subtract(b22, t1, out=t3)
    np.subtract(t1, b11, out=t1)
    np.subtract(b22, t1, out=t2)
    np.subtract(b21, t2, out=t4)
    return packed
