"""Whether an array may be a network's input, said in terms of what was expected; it must not know graphs."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sepcore.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray


FLOAT32 = np.dtype(np.float32)
"""The only element type; numpy is faster with it than with the name of it."""

_from_buffer: Any = ctypes.c_char.from_buffer  # whose types do not know numpy arrays as buffers


def address(array: NDArray[np.float32]) -> int:
    """Where the first element of an array in C order is."""
    try:
        return ctypes.addressof(_from_buffer(array))  # takes a third of what ``array.ctypes`` takes
    except (TypeError, ValueError):  # to be read only, or without elements
        data: int = array.ctypes.data
        return data


def checked(name: str, array: Any) -> NDArray[np.float32]:
    """``array`` in C order, if it is one of float32.

    Raises
    ------
    InputError : it is not; says so of the input ``name``.
    """
    if not isinstance(array, np.ndarray):
        raise InputError(f"input {name!r}: expected a numpy array, found {type(array).__name__}")
    if array.dtype != FLOAT32:
        raise InputError(f"input {name!r}: expected float32, found {array.dtype}")
    # A single number would be given an axis.
    ordered: NDArray[np.float32] = np.ascontiguousarray(array) if array.ndim else array
    return ordered


def check_shape(name: str, expected: Sequence[int | str], shape: Sequence[int]) -> None:
    """Raise unless ``shape`` is what an input takes.

    Parameters
    ----------
    expected : lengths, the first of which counts images; one that may vary is a name.

    Raises
    ------
    InputError : another rank or length.
    """
    wanted = f"({', '.join(map(str, expected))})"
    if len(shape) != len(expected):
        raise InputError(f"input {name!r}: expected {len(expected)} axes {wanted}, found shape {tuple(shape)}")
    for length, found in zip(expected[1:], shape[1:]):
        if (isinstance(length, int) and length != found) or found < 1:
            raise InputError(f"input {name!r}: expected shape {wanted}, found {tuple(shape)}")
    if expected and isinstance(expected[0], int) and expected[0] != shape[0]:
        raise InputError(f"input {name!r}: expected a batch of {expected[0]}, found {shape[0]}")
