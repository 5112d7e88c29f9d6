"""Scales packed weights for crossed products, in place, and undoes it: by NumPy alone, for frozen networks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

CROSSED, SCALE, BIAS, HEAD_ROWS = range(4)
"""Rows of a panel before its weights: what sums begin with, what they are multiplied with in the end, the bias; and how
many these are."""

_LEAST_EXPONENT = -100
"""Weights below 2^-100 are not brought to [1, 2): what they add to an output is below every other's rounding."""


def balance(packed: NDArray[np.float32]) -> NDArray[np.float32]:
    """Packed panels with weights scaled and signed, where they stand as they are, and what belongs to that.

    Each output's weights are multiplied with the power of two that takes their Euclidean norm to [1, 2), those of
    every second pair with -1.

    Parameters
    ----------
    packed : float32 (panels, 3 + 3 * triples, columns), changed in place: rows of zeros but for the bias, then weights
        i, i + triples and i + 2 triples, for each i.
    """
    triples = packed[:, HEAD_ROWS:].reshape(len(packed), -1, 3, packed.shape[2])
    # Of the largest first: a channel that training has given up may have weights whose squares are no float32.
    largest = np.maximum(triples.max(axis=(1, 2)), -triples.min(axis=(1, 2)))
    exponents = np.maximum(np.frexp(largest)[1], _LEAST_EXPONENT)
    triples *= np.ldexp(np.float32(1), -exponents)[:, None, None]
    more = np.frexp(np.einsum("ptjc,ptjc->pc", triples, triples))[1] - 1 >> 1
    triples *= np.ldexp(np.float32(1), -more)[:, None, None]
    packed[:, SCALE] = np.ldexp(np.float32(1), exponents + more)
    packed[:, SCALE][largest == 0] = 0  # what pruning left nothing of is the bias, with no rounding
    pairs = triples[:, :, :2]
    packed[:, CROSSED] = np.einsum("pjtc,pjtc->pc", pairs[:, 1::2, :1], pairs[:, 1::2, 1:])
    packed[:, CROSSED] -= np.einsum("pjtc,pjtc->pc", pairs[:, ::2, :1], pairs[:, ::2, 1:])
    np.negative(pairs[:, 1::2], out=pairs[:, 1::2])
    return packed


def unbalance(packed: NDArray[np.float32]) -> None:
    """Undo :func:`balance`, in place; exact where no scaled weight has become too small for float32."""
    triples = packed[:, HEAD_ROWS:].reshape(len(packed), -1, 3, packed.shape[2])
    triples *= packed[:, None, None, SCALE]
    np.negative(triples[:, 1::2, :2], out=triples[:, 1::2, :2])
    packed[:, [CROSSED, SCALE]] = 0
