"""Runs one kernel row on guarded arrays, from the step's words alone, as a program would."""

from __future__ import annotations

import ctypes
import struct
from typing import Any

import numpy as np
from guarded import guarded
from numpy.typing import NDArray

from sepcore.kernels import step
from sepcore.kernels.spec import KernelSpec

_KERNEL = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 4)

ACTIVATIONS = [
    (0, 0.0, 0.0),
    (1, 0.0, 6.0),
    (1, 0.0, float("inf")),
    (2, 0.1, 0.0),
    (3, 0.0, 0.0),
    (4, 1 / 6, 0.5),
    (5, 0.0, 0.0),
    (6, 0.0, 0.0),
    (8, 0.0, 0.0),
]


def call(
    address: int,
    words: dict[int, int],
    arrays: dict[int, NDArray[Any]],
    activation: tuple[int, float, float] = (0, 0.0, 0.0),
    tiles: int = 1,
    scratch: int = 0,
    at_end: bool = True,
    result: int = step.OUT,
) -> NDArray[np.float32]:
    """Run every tile (the last first: their order must not matter); returns a copy of ``result``.

    It holds what it held before where nothing wrote: NaN, as tests give it.
    """
    memory = {word: guarded(array, at_end) for word, array in arrays.items()}
    thread = np.zeros(128, np.int64)
    room = guarded(np.zeros(max(1, scratch // 8), np.int64), at_end)
    thread[step.THREAD_SCRATCH] = room.ctypes.data
    row = np.zeros(step.WORDS, np.int64)
    for word, value in words.items():
        row[word] = value
    for word, array in memory.items():
        row[word] = array.ctypes.data
    row[step.TILES] = tiles
    row[step.ACTIVATION] = activation[0]
    row[step.PARAMETERS] = struct.unpack("<q", struct.pack("<ff", *activation[1:]))[0]
    function = _KERNEL(address)
    for tile in reversed(range(tiles)):
        function(row.ctypes.data, tile, thread.ctypes.data, 0)
    return memory[result].copy()


def padded(array: NDArray[Any], stride: int, fill: float = 0.0) -> NDArray[np.float32]:
    """The last axis filled up to ``stride`` floats."""
    out = np.full((*array.shape[:-1], stride), fill, np.float32)
    out[..., : array.shape[-1]] = array
    return out


def close(found: NDArray[Any], expected: NDArray[Any], scale: float = 1.0) -> None:
    """Assert equality within float32 rounding of a sum whose terms add up to ``scale``."""
    assert not np.isnan(found).any()
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-6 * max(1.0, scale))


__all__ = ["ACTIVATIONS", "KernelSpec", "call", "close", "padded"]
