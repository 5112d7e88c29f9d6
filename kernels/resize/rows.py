"""Maps of another size: each output row and column is taken from one row and column of the input, or between two.

Operands of a step: X float32 [height][width][x_pixel bytes], OUT [out height][out width][out_pixel bytes]. WEIGHTS is a
table of int64 entries, one for each output row, then one for each output column: ``nearest``: the index of the input
row or column; ``bilinear``: two indices and, as the bits of a float32 in the low half, the share of the second.
Channels are a multiple of the lanes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from sepcore.kernels import isa as isas
from sepcore.kernels import step
from sepcore.kernels.spec import KernelSpec

OUT_HEIGHT, OUT_WIDTH, CHANNELS, X_PIXEL, X_ROW, OUT_PIXEL, OUT_ROW, ROW_BLOCKS = range(
    step.FIRST_SHAPE, step.FIRST_SHAPE + 8
)

ENTRY_WORDS = {"nearest": 1, "bilinear": 3}


def row(mode: str, isa: str) -> KernelSpec:
    """The row of a mode."""
    return KernelSpec(f"f32_resize_{mode}__{isa}", "resize", isa, mode, _build)


def rows(isa: str) -> Iterator[KernelSpec]:
    """Every row of an instruction set."""
    return (row(mode, isa) for mode in ENTRY_WORDS)


def bilinear_table(
    first: NDArray[np.int64], second: NDArray[np.int64], share: NDArray[np.float64]
) -> NDArray[np.int64]:
    """The entries of one side: ``first * (1 - share) + second * share``."""
    bits = share.astype(np.float32).view(np.int32).astype(np.int64)
    return np.stack([first, second, bits], axis=1)


def _build(spec: KernelSpec) -> Callable[[int, int, int, int], None]:
    from sepcore.kernels.simd import lanes_of
    from sepcore.kernels.words import load_float, load_word

    v = lanes_of(isas.by_name(spec.isa))
    load, store, splat, fma, subtract, vector_bytes, lanes = v.load, v.store, v.splat, v.fma, v.sub, v.bytes, v.width
    bilinear = spec.parameters == "bilinear"
    entry_bytes = 8 * ENTRY_WORDS[spec.parameters]

    def kernel(at: int, index: int, thread: int, image: int) -> None:
        x = load_word(at + 8 * step.X) + image * load_word(at + 8 * step.X_IMAGE)
        out = load_word(at + 8 * step.OUT) + image * load_word(at + 8 * step.OUT_IMAGE)
        table = load_word(at + 8 * step.WEIGHTS)
        out_height, out_width = load_word(at + 8 * OUT_HEIGHT), load_word(at + 8 * OUT_WIDTH)
        groups, x_pixel, x_row = (
            load_word(at + 8 * CHANNELS) // lanes,
            load_word(at + 8 * X_PIXEL),
            load_word(at + 8 * X_ROW),
        )
        out_pixel, out_row = load_word(at + 8 * OUT_PIXEL), load_word(at + 8 * OUT_ROW)
        blocks = load_word(at + 8 * ROW_BLOCKS)
        for oy in range(index * out_height // blocks, (index + 1) * out_height // blocks):
            vertical = table + oy * entry_bytes
            top = x + load_word(vertical) * x_row
            for ox in range(out_width):
                horizontal = table + (out_height + ox) * entry_bytes
                left = load_word(horizontal) * x_pixel
                target = out + oy * out_row + ox * out_pixel
                if bilinear:
                    bottom, right = x + load_word(vertical + 8) * x_row, load_word(horizontal + 8) * x_pixel
                    down, across = splat(load_float(vertical + 16)), splat(load_float(horizontal + 16))
                    for g in range(groups):
                        a, b = load(top + left + g * vector_bytes), load(top + right + g * vector_bytes)
                        c, d = load(bottom + left + g * vector_bytes), load(bottom + right + g * vector_bytes)
                        upper, lower = fma(subtract(b, a), across, a), fma(subtract(d, c), across, c)
                        store(target + g * vector_bytes, fma(subtract(lower, upper), down, upper))
                else:
                    for g in range(groups):
                        store(target + g * vector_bytes, load(top + left + g * vector_bytes))

    return kernel
