"""Dense and grouped convolution of any kernel size, stride, padding and dilation, by indirection: no im2col copy.

For each tile of output pixels a table of input addresses, one per tap and pixel, is written into the thread's scratch
memory (after Dukhan, "The Indirect Convolution Algorithm", 2019); taps outside the map point at ZEROS.
Operands of a step: X float32 [height][width][x_pixel bytes], WEIGHTS as ``pack`` lays them out, OUT and EXTRA (an
optional residual) [out pixels][pixel bytes], ZEROS at least one group's input channels. OUT overlaps neither.
The table stands TABLE bytes into the scratch memory. A step may be a band of a map, as in the depthwise kernel.
Groups are done in order within a pixel: a group may store past its channels into the next group's, which come later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepcore.kernels import isa as isas
from sepcore.kernels import step
from sepcore.kernels.pointwise import rows as pointwise
from sepcore.kernels.spec import KernelSpec

(
    HEIGHT, WIDTH, OUT_WIDTH, M, K, X_PIXEL, X_ROW, OUT_PIXEL, EXTRA_PIXEL, SIZE_Y, SIZE_X, STRIDE_Y, STRIDE_X,
    PAD_TOP, PAD_LEFT, DILATION_Y, DILATION_X, PANELS, GROUPS, OUT_CHANNELS, ROW_BLOCKS, FIRST_ROW, X_RING, X_PHASE,
    TABLE,
) = range(step.FIRST_SHAPE, step.FIRST_SHAPE + 25)  # fmt: skip

_TILES = {
    "avx512": ((14, 2), (9, 3), (7, 2), (4, 2), (1, 2), (1, 4), (14, 1), (7, 1), (1, 1)),
    "avx2": ((6, 2), (1, 2), (4, 1), (1, 1)),
    "neon": ((8, 2), (1, 2), (4, 1), (1, 1)),
    "portable": ((5, 2), (1, 2), (4, 1), (1, 1)),
}


def tiles(isa: str) -> list[pointwise.Tile]:
    """Every tile of an instruction set."""
    return [pointwise.Tile(rows, vectors) for rows, vectors in _TILES[isa]]


def row(tile: pointwise.Tile, isa: str) -> KernelSpec:
    """The row of a tile."""
    name = f"f32_conv_{tile.rows}x{tile.columns(isas.by_name(isa).lanes)}__{isa}"
    return KernelSpec(name, "conv", isa, tile, _build)


def rows(isa: str) -> Iterator[KernelSpec]:
    """Every dense convolution row of an instruction set."""
    return (row(tile, isa) for tile in tiles(isa))


def scratch_bytes(tile: pointwise.Tile, taps: int) -> int:
    """Scratch memory that a thread needs for the table of addresses."""
    return 8 * tile.rows * taps


def pack(
    weight: NDArray[np.float32], bias: NDArray[np.float32] | None, groups: int, tile: pointwise.Tile, lanes: int
) -> NDArray[np.float32]:
    """Packed weights [group][panel][1 + taps * k][columns], bias first.

    Parameters
    ----------
    weight : float32 (oc, ic / groups, kh, kw), as PyTorch has it.
    bias : float32 (oc,) or None for zeros.
    """
    oc, k, kh, kw = weight.shape
    per_group, columns = oc // groups, tile.columns(lanes)
    panels = -(-per_group // columns)
    full = np.zeros((groups, 1 + kh * kw * k, panels * columns), np.float32)
    taps = weight.reshape(groups, per_group, k, kh * kw).transpose(0, 3, 2, 1)
    full[:, 1:, :per_group] = taps.reshape(groups, kh * kw * k, per_group)
    if bias is not None:
        full[:, 0, :per_group] = bias.reshape(groups, per_group)
    return np.ascontiguousarray(full.reshape(groups, -1, panels, columns).transpose(0, 2, 1, 3)).ravel()


def _build(spec: KernelSpec) -> Callable[[int, int, int, int], None]:
    from sepcore.kernels.conv.dense_tile import dense_tile
    from sepcore.kernels.words import load_word, store_word

    isa = isas.by_name(spec.isa)
    tile: pointwise.Tile = spec.parameters
    panel: Any = dense_tile(tile, isa)
    mr = tile.rows
    column_bytes = 4 * tile.columns(isa.lanes)

    def kernel(at: int, index: int, thread: int, image: int) -> None:
        x = load_word(at + 8 * step.X) + image * load_word(at + 8 * step.X_IMAGE)
        out = load_word(at + 8 * step.OUT) + image * load_word(at + 8 * step.OUT_IMAGE)
        extra = load_word(at + 8 * step.EXTRA)
        if extra != 0:
            extra += image * load_word(at + 8 * step.EXTRA_IMAGE)
        weights, zeros = load_word(at + 8 * step.WEIGHTS), load_word(at + 8 * step.ZEROS)
        height, width, out_width = load_word(at + 8 * HEIGHT), load_word(at + 8 * WIDTH), load_word(at + 8 * OUT_WIDTH)
        m, k = load_word(at + 8 * M), load_word(at + 8 * K)
        x_pixel, x_row = load_word(at + 8 * X_PIXEL), load_word(at + 8 * X_ROW)
        out_pixel, extra_pixel = load_word(at + 8 * OUT_PIXEL), load_word(at + 8 * EXTRA_PIXEL)
        size_y, size_x = load_word(at + 8 * SIZE_Y), load_word(at + 8 * SIZE_X)
        stride_y, stride_x = load_word(at + 8 * STRIDE_Y), load_word(at + 8 * STRIDE_X)
        pad_top, pad_left = load_word(at + 8 * PAD_TOP), load_word(at + 8 * PAD_LEFT)
        dilation_y, dilation_x = load_word(at + 8 * DILATION_Y), load_word(at + 8 * DILATION_X)
        panels, groups = load_word(at + 8 * PANELS), load_word(at + 8 * GROUPS)
        group_channels, blocks = load_word(at + 8 * OUT_CHANNELS), load_word(at + 8 * ROW_BLOCKS)
        first_row, ring, phase = load_word(at + 8 * FIRST_ROW), load_word(at + 8 * X_RING), load_word(at + 8 * X_PHASE)
        table = load_word(thread + 8 * step.THREAD_SCRATCH) + load_word(at + 8 * TABLE)
        taps = size_y * size_x
        panel_bytes = (1 + taps * k) * column_bytes
        # The last block takes the pixels that fill no tile: a tile moved up over another thread's would activate twice.
        units = m // mr
        end = (index + 1) * units // blocks
        if index == blocks - 1 and units * mr < m:
            end += 1
        for unit in range(index * units // blocks, end):
            first = min(unit * mr, m - mr)
            oy = first // out_width
            ox = first - oy * out_width
            for i in range(mr):
                top, left = (first_row + oy) * stride_y - pad_top, ox * stride_x - pad_left
                entry = table + 8 * i
                for ky in range(size_y):
                    iy = top + ky * dilation_y
                    row_inside = 0 <= iy < height
                    source = x + ((iy + phase) % ring) * x_row + left * x_pixel
                    for kx in range(size_x):
                        if row_inside and 0 <= left + kx * dilation_x < width:
                            store_word(entry, source)
                        else:
                            store_word(entry, zeros)
                        source += dilation_x * x_pixel
                        entry += 8 * mr
                ox += 1
                if ox == out_width:
                    oy, ox = oy + 1, 0
            for group in range(groups):
                for p in range(panels):
                    column = (group * group_channels) * 4 + p * column_bytes
                    residual = extra
                    if extra != 0:
                        residual = extra + first * extra_pixel + column
                    panel(
                        table, group * k * 4, zeros, taps, weights + (group * panels + p) * panel_bytes, k,
                        out + first * out_pixel + column, out_pixel, residual, extra_pixel, at,
                    )  # fmt: skip

    return kernel
