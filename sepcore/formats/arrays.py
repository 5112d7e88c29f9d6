"""Read flat arrays of the element types that PyTorch and safetensors write; the only place that widens bfloat16.

Nothing here knows shapes, strides or names: a caller checks those first.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepcore.formats.source import Source

ITEM_BYTES = {
    "float64": 8,
    "float32": 4,
    "float16": 2,
    "bfloat16": 2,
    "int64": 8,
    "int32": 4,
    "int16": 2,
    "int8": 1,
    "uint64": 8,
    "uint32": 4,
    "uint16": 2,
    "uint8": 1,
    "bool": 1,
    "complex64": 8,
    "complex128": 16,
}
"""Bytes of one element in a file, by PyTorch's name of the type; a type that is not here cannot be read."""

_WIDEN_ELEMENTS = 1 << 18


def stored_dtype(dtype: str) -> np.dtype[Any]:
    """Return the NumPy type in which ``read_flat`` hands out elements of ``dtype``."""
    widened: np.dtype[Any] = np.dtype("float32" if dtype == "bfloat16" else dtype)
    stored: np.dtype[Any] = widened.newbyteorder("<")
    return stored


def read_flat(source: Source, offset: int, dtype: str, count: int) -> NDArray[Any]:
    """Read ``count`` little-endian elements of ``dtype`` that begin at byte ``offset``.

    Returns
    -------
    (count,) read-only array; bfloat16 arrives as float32, every other type as itself.

    Raises
    ------
    FormatError : the range does not lie in the file; nothing is allocated then.
    """
    source.check_range(offset, count * ITEM_BYTES[dtype])
    flat = np.empty(count, stored_dtype(dtype))
    if count and dtype == "bfloat16":
        _widen_bfloat16(source, offset, flat.view("<u4"))
    elif count:
        source.read_into(offset, flat.view(np.uint8).data)
    flat.flags.writeable = False
    return flat


def _widen_bfloat16(source: Source, offset: int, out: NDArray[np.uint32]) -> None:
    # A bfloat16 is the upper half of a float32. In pieces, so that the halves never lie in memory as a whole.
    halves = np.empty(min(len(out), _WIDEN_ELEMENTS), "<u2")
    for start in range(0, len(out), len(halves)):
        piece = out[start : start + len(halves)]
        half = halves[: len(piece)]
        source.read_into(offset + 2 * start, half.view(np.uint8).data)
        np.left_shift(half, 16, out=piece, dtype=np.uint32)
