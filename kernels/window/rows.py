"""Maximum and average over the windows of a map, of any size, stride, padding and dilation, each output's own.

Operands of a step: X float32 [height][width][x_pixel bytes], OUT [out height][out width][out_pixel bytes], WEIGHTS a
table of int64: for each output row, then for each output column, the first input it meets, how many it meets
(DILATION apart), and how many count in the average's divisor; the divisor is the product of both sides' counts.
Channels are a multiple of the lanes. A window that meets nothing has the maximum -infinity and the sum 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from sepcore.kernels import isa as isas
from sepcore.kernels import step
from sepcore.kernels.spec import KernelSpec

(
    OUT_HEIGHT, OUT_WIDTH, CHANNELS, X_PIXEL, X_ROW, OUT_PIXEL, OUT_ROW, DILATION_Y, DILATION_X, ROW_BLOCKS,
) = range(step.FIRST_SHAPE, step.FIRST_SHAPE + 10)  # fmt: skip

ENTRY_WORDS = 3
KINDS = ("maximum", "average")


def row(kind: str, isa: str) -> KernelSpec:
    """The row of a kind of pooling."""
    return KernelSpec(f"f32_window_{kind}__{isa}", "window", isa, kind, _build)


def rows(isa: str) -> Iterator[KernelSpec]:
    """Every row of an instruction set."""
    return (row(kind, isa) for kind in KINDS)


def _build(spec: KernelSpec) -> Callable[[int, int, int, int], None]:
    import numpy as np

    from sepcore.kernels.simd import lanes_of
    from sepcore.kernels.strided.functions import larger
    from sepcore.kernels.words import load_word

    v = lanes_of(isas.by_name(spec.isa))
    load, store, splat, divide, vector_bytes, lanes = v.load, v.store, v.splat, v.div, v.bytes, v.width
    averages = spec.parameters == "average"
    join: Any = v.add if averages else v.binary(larger)
    start = np.float32(0.0 if averages else -np.inf)
    entry_bytes = 8 * ENTRY_WORDS

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
        next_y, next_x = load_word(at + 8 * DILATION_Y) * x_row, load_word(at + 8 * DILATION_X) * x_pixel
        blocks = load_word(at + 8 * ROW_BLOCKS)
        for oy in range(index * out_height // blocks, (index + 1) * out_height // blocks):
            vertical = table + oy * entry_bytes
            high = load_word(vertical + 8)
            for ox in range(out_width):
                horizontal = table + (out_height + ox) * entry_bytes
                wide = load_word(horizontal + 8)
                first = x + load_word(vertical) * x_row + load_word(horizontal) * x_pixel
                counted = splat(np.float32(load_word(vertical + 16) * load_word(horizontal + 16)))
                for g in range(groups):
                    total = splat(start)
                    for ky in range(high):
                        source = first + ky * next_y + g * vector_bytes
                        for _ in range(wide):
                            total = join(total, load(source))
                            source += next_x
                    if averages:
                        total = divide(total, counted)
                    store(out + oy * out_row + ox * out_pixel + g * vector_bytes, total)

    return kernel
