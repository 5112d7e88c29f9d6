"""Programs of integer steps whose results show which tile ran when and where, for the tests of the thread pool."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepcore.kernels import step
from sepcore.kernels.runtime import layout

Words = NDArray[np.int64]

SHIFT = 97
LENGTH, LAYER = step.FIRST_SHAPE, step.FIRST_SHAPE + 1
BLOCK_BYTES = 128


@cache
def compiled(kernel: Callable[[int, int, int, int], None]) -> Any:
    """The C function of a kernel; keeps it alive."""
    from numba import cfunc, types

    return cfunc(types.void(*[types.int64] * 4), nopython=True, error_model="numpy")(kernel)


@cache
def count_kernel() -> int:
    """Adds 1 to word ``tile`` of its image in OUT, and keeps the thread's index + 1 in EXTRA."""
    from sepcore.kernels.runtime.prim import atomic_add
    from sepcore.kernels.words import load_word, store_word

    def count(at: int, tile: int, thread: int, image: int) -> None:
        atomic_add(load_word(at + 8 * step.OUT) + image * load_word(at + 8 * step.OUT_IMAGE) + 8 * tile, 1)
        extra = load_word(at + 8 * step.EXTRA)
        if extra != 0:
            extra += image * load_word(at + 8 * step.EXTRA_IMAGE)
            store_word(extra + 8 * tile, load_word(thread + 8 * step.THREAD_INDEX) + 1)

    return int(compiled(count).address)


@cache
def mix_kernel() -> int:
    """OUT[i] = 3 X[i] + X[i + SHIFT] + LAYER for its share of i, so that a step depends on all of the one before."""
    from sepcore.kernels.words import load_word, store_word

    def mix(at: int, tile: int, thread: int, image: int) -> None:
        x = load_word(at + 8 * step.X) + image * load_word(at + 8 * step.X_IMAGE)
        out = load_word(at + 8 * step.OUT) + image * load_word(at + 8 * step.OUT_IMAGE)
        length, tiles = load_word(at + 8 * LENGTH), load_word(at + 8 * step.TILES)
        for i in range(tile * length // tiles, (tile + 1) * length // tiles):
            j = i + SHIFT
            if j >= length:
                j -= length
            store_word(out + 8 * i, 3 * load_word(x + 8 * i) + load_word(x + 8 * j) + load_word(at + 8 * LAYER))

    return int(compiled(mix).address)


class Toy:
    """A program, its thread blocks and its request in memory of their own."""

    def __init__(self, rows: Sequence[dict[int, int]], *, threads: int = 1, images: int = 1) -> None:
        self.table = np.zeros((len(rows), step.WORDS), np.int64)
        for row, words in zip(self.table, rows):
            for word, value in words.items():
                row[word] = value
        self.blocks = np.zeros((threads, BLOCK_BYTES // 8), np.int64)
        self.blocks[:, step.THREAD_INDEX] = np.arange(threads)
        self.words = np.zeros(layout.REQUEST_WORDS, np.int64)
        self.words[[layout.PROGRAM, layout.ALONE_PROGRAM]] = address(self.table)
        self.words[[layout.STEPS, layout.ALONE_STEPS]] = len(rows)
        self.words[layout.IMAGES] = images
        self.words[layout.THREADS] = threads
        self.words[layout.THREAD_BLOCKS] = address(self.blocks)
        self.words[layout.THREAD_BLOCK_BYTES] = BLOCK_BYTES
        self.request = address(self.words)
        self.threads = threads


class Layers(Toy):
    """``layers`` dependent steps of ``tiles`` tiles over ``images`` rows of ``length`` integers."""

    def __init__(self, layers: int, tiles: int, *, threads: int = 1, images: int = 1, length: int = 256) -> None:
        self.layers = layers
        self.maps = np.zeros((2, images, length), np.int64)
        rows = [
            {
                step.CODE: mix_kernel(), step.TILES: tiles, LENGTH: length, LAYER: layer,
                step.X: address(self.maps[layer % 2]), step.X_IMAGE: 8 * length,
                step.OUT: address(self.maps[1 - layer % 2]), step.OUT_IMAGE: 8 * length,
            }
            for layer in range(layers)
        ]  # fmt: skip
        super().__init__(rows, threads=threads, images=images)

    def set_input(self, seed: int) -> Words:
        """Fill the input with integers that depend on ``seed``; returns what the last step has to give."""
        x: Words = np.random.default_rng(seed).integers(0, 99, self.maps[0].shape)
        self.maps[0], self.maps[1] = x, -1
        for layer in range(self.layers):
            x = 3 * x + np.roll(x, -SHIFT, axis=1) + layer
        return x

    @property
    def output(self) -> Words:
        output: Words = self.maps[self.layers % 2]
        return output


def address(array: NDArray[Any]) -> int:
    """Where an array begins."""
    return int(array.ctypes.data)


def counting_row(out: Words, threads: Words | None = None) -> dict[int, int]:
    """A step with one tile for each column of ``out`` (images, tiles)."""
    row = {
        step.CODE: count_kernel(), step.TILES: out.shape[-1],
        step.OUT: address(out), step.OUT_IMAGE: out.strides[0],
    }  # fmt: skip
    if threads is not None:
        row |= {step.EXTRA: address(threads), step.EXTRA_IMAGE: threads.strides[0]}
    return row


def c_callable(function: Callable[..., Any], signature: str) -> Any:
    """``function`` compiled by Numba for a signature, called through ctypes."""
    from numba import cfunc

    return cfunc(signature, nopython=True)(function).ctypes


def c_function(name: str) -> int:
    """Address of a function of the C library."""
    return ctypes.cast(getattr(ctypes.CDLL(None), name), ctypes.c_void_p).value or 0
