"""Depthwise convolution of any kernel size, stride, padding and dilation: the row for shapes without a register tile.

Operands of a step as in depthwise/rows.py, without ZEROS: taps outside the map are left out. One output vector at a
time, so it is several times slower than a tile; common shapes never come here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sepcore.kernels import isa as isas
from sepcore.kernels import step
from sepcore.kernels.spec import KernelSpec

(
    HEIGHT, WIDTH, OUT_HEIGHT, OUT_WIDTH, CHANNELS, X_PIXEL, X_ROW, OUT_PIXEL, OUT_ROW, PAD_TOP, PAD_LEFT, SIZE_Y,
    SIZE_X, STRIDE_Y, STRIDE_X, DILATION_Y, DILATION_X, ROW_BLOCKS,
) = range(step.FIRST_SHAPE, step.FIRST_SHAPE + 18)  # fmt: skip


def row(isa: str) -> KernelSpec:
    """The row of an instruction set."""
    return KernelSpec(f"f32_depthwise_general__{isa}", "depthwise_general", isa, None, _build)


def rows(isa: str) -> Iterator[KernelSpec]:
    """The one row of an instruction set."""
    yield row(isa)


def _build(spec: KernelSpec) -> Callable[[int, int, int, int], None]:
    from sepcore.kernels.simd import lanes_of
    from sepcore.kernels.words import load_float, load_word

    v = lanes_of(isas.by_name(spec.isa))
    load, store, fma, activate, vector_bytes, width_lanes = v.load, v.store, v.fma, v.activate, v.bytes, v.width

    def kernel(at: int, index: int, thread: int, image: int) -> None:
        x = load_word(at + 8 * step.X) + image * load_word(at + 8 * step.X_IMAGE)
        out = load_word(at + 8 * step.OUT) + image * load_word(at + 8 * step.OUT_IMAGE)
        weights = load_word(at + 8 * step.WEIGHTS)
        height, width = load_word(at + 8 * HEIGHT), load_word(at + 8 * WIDTH)
        out_height, out_width = load_word(at + 8 * OUT_HEIGHT), load_word(at + 8 * OUT_WIDTH)
        groups = load_word(at + 8 * CHANNELS) // width_lanes
        x_pixel, x_row = load_word(at + 8 * X_PIXEL), load_word(at + 8 * X_ROW)
        out_pixel, out_row = load_word(at + 8 * OUT_PIXEL), load_word(at + 8 * OUT_ROW)
        pad_top, pad_left = load_word(at + 8 * PAD_TOP), load_word(at + 8 * PAD_LEFT)
        size_y, size_x = load_word(at + 8 * SIZE_Y), load_word(at + 8 * SIZE_X)
        stride_y, stride_x = load_word(at + 8 * STRIDE_Y), load_word(at + 8 * STRIDE_X)
        dilation_y, dilation_x = load_word(at + 8 * DILATION_Y), load_word(at + 8 * DILATION_X)
        blocks = load_word(at + 8 * ROW_BLOCKS)
        code = load_word(at + 8 * step.ACTIVATION)
        p, q = load_float(at + 8 * step.PARAMETERS), load_float(at + 8 * step.PARAMETERS + 4)
        group_bytes = (1 + size_y * size_x) * vector_bytes
        for oy in range(index * out_height // blocks, (index + 1) * out_height // blocks):
            for ox in range(out_width):
                for g in range(groups):
                    taps = weights + g * group_bytes
                    total = load(taps)
                    for ky in range(size_y):
                        iy = oy * stride_y - pad_top + ky * dilation_y
                        if iy < 0 or iy >= height:
                            continue
                        for kx in range(size_x):
                            ix = ox * stride_x - pad_left + kx * dilation_x
                            if ix < 0 or ix >= width:
                                continue
                            value = load(x + iy * x_row + ix * x_pixel + g * vector_bytes)
                            total = fma(value, load(taps + (1 + ky * size_x + kx) * vector_bytes), total)
                    target = out + oy * out_row + ox * out_pixel + g * vector_bytes
                    store(target, activate(total, code, p, q))

    return kernel
