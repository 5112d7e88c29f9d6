"""Rows of the depthwise kernel: kernel size, stride, register tile and side padding, and the loop over a map.

Operands of a step: X float32 [height][width][channels], WEIGHTS as ``pack`` lays them out, OUT likewise, ZEROS at least
one input row of zeros. Strides are in bytes; channels are a multiple of the lanes. Rows above and below the map are
read from ZEROS, columns beside it are left out by variants of the tile: no padded copy is made. OUT may not overlap X.
A step may be a band of a map: its OUT_HEIGHT rows are those from FIRST_ROW on, OUT is the band's own memory, and input
row i stands at row (i + X_PHASE) mod X_RING of X (HEIGHT and 0 where every row has a place of its own).
Each of several ROW_BLOCKS has as many rows as a tile at least. EXTRA, where there is one, is filled with the sums of
the whole map's rows, float32 [rows][channels].
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from sepcore.kernels import isa as isas
from sepcore.kernels import step
from sepcore.kernels.spec import KernelSpec

(
    HEIGHT, WIDTH, OUT_HEIGHT, OUT_WIDTH, CHANNELS, X_PIXEL, X_ROW, OUT_PIXEL, OUT_ROW, PAD_TOP, ROW_BLOCKS,
    CHANNEL_BLOCKS, FIRST_ROW, X_RING, X_PHASE,
) = range(step.FIRST_SHAPE, step.FIRST_SHAPE + 15)  # fmt: skip

_ROW_POINTERS = 64  # where the row pointers stand in a thread's block, bytes


@dataclass(frozen=True)
class Window:
    """Kernel size and stride, ``width`` outputs of two rows per tile, and the columns that the sides of a map lack.

    ``left`` and ``right`` are the columns of the window that lie outside the map at its first and last output.
    """

    size: int
    stride: int
    width: int
    left: int
    right: int

    @property
    def rows(self) -> int:
        """Output rows of a tile."""
        return 2

    @property
    def input_rows(self) -> int:
        """Input rows that a tile reads."""
        return (self.rows - 1) * self.stride + self.size

    @property
    def input_columns(self) -> int:
        """Input columns that a tile covers."""
        return (self.width - 1) * self.stride + self.size


_WIDTHS = {"avx512": (1, 2, 3, 4, 7), "avx2": (1, 2, 3, 4), "neon": (1, 2, 3, 4, 7), "portable": (1, 2, 3, 4)}
# Side columns that occur: "same" padding of PyTorch (half the kernel) and of TensorFlow, on even and odd widths.
_SIDES = {
    (3, 1): ((1, 1), (0, 0)),
    (3, 2): ((1, 1), (1, 0), (0, 1), (0, 0)),
    (5, 1): ((2, 2),),
    (5, 2): ((2, 2), (2, 1), (1, 2)),
    (7, 1): ((3, 3),),
    (7, 2): ((3, 3), (3, 2), (2, 3)),
}


def windows(isa: str) -> list[Window]:
    """Every window of an instruction set."""
    return [
        Window(size, stride, width, *side)
        for (size, stride), sides in _SIDES.items()
        for side in sides
        for width in _WIDTHS[isa]
    ]


def row(window: Window, isa: str) -> KernelSpec:
    """The row of a window."""
    w = window
    name = f"f32_depthwise_k{w.size}s{w.stride}_{w.rows}x{w.width}_l{w.left}r{w.right}__{isa}"
    return KernelSpec(name, "depthwise", isa, window, _build)


def rows(isa: str) -> Iterator[KernelSpec]:
    """Every depthwise row of an instruction set."""
    return (row(window, isa) for window in windows(isa))


def fits(window: Window, width: int, out_width: int) -> bool:
    """Whether the window's variants cover a map: each tile lacks nothing or just ``left`` and ``right`` columns."""
    if out_width < window.width:
        return False
    for first in [*range(0, out_width - window.width, window.width), out_width - window.width]:
        left = max(0, window.left - first * window.stride)
        right = max(0, first * window.stride - window.left + window.input_columns - width)
        if left not in (0, window.left) or right not in (0, window.right):
            return False
    return True


def _build(spec: KernelSpec) -> Callable[[int, int, int, int], None]:
    from sepcore.kernels.depthwise.tile import depthwise_tile
    from sepcore.kernels.words import load_word, store_word

    isa = isas.by_name(spec.isa)
    w: Window = spec.parameters
    inner: Any = depthwise_tile(w, 0, 0, isa)
    leftmost: Any = depthwise_tile(w, w.left, 0, isa)
    rightmost: Any = depthwise_tile(w, 0, w.right, isa)
    whole: Any = depthwise_tile(w, w.left, w.right, isa)
    size, stride, tile_width, left = w.size, w.stride, w.width, w.left
    input_rows, input_columns, tile_rows = w.input_rows, w.input_columns, w.rows
    weight_bytes_per_channel = 4 * (size * size + 1)
    lanes = isa.lanes

    def kernel(at: int, index: int, thread: int, image: int) -> None:
        height, width = load_word(at + 8 * HEIGHT), load_word(at + 8 * WIDTH)
        out_height, out_width = load_word(at + 8 * OUT_HEIGHT), load_word(at + 8 * OUT_WIDTH)
        x_pixel, x_row = load_word(at + 8 * X_PIXEL), load_word(at + 8 * X_ROW)
        out_pixel, out_row = load_word(at + 8 * OUT_PIXEL), load_word(at + 8 * OUT_ROW)
        row_blocks, channel_blocks = load_word(at + 8 * ROW_BLOCKS), load_word(at + 8 * CHANNEL_BLOCKS)
        groups = load_word(at + 8 * CHANNELS) // lanes
        row_block, part = index % row_blocks, index // row_blocks
        first_group, end_group = part * groups // channel_blocks, (part + 1) * groups // channel_blocks
        channel_bytes = first_group * lanes * 4
        channels = (end_group - first_group) * lanes
        x = load_word(at + 8 * step.X) + image * load_word(at + 8 * step.X_IMAGE) + channel_bytes
        out = load_word(at + 8 * step.OUT) + image * load_word(at + 8 * step.OUT_IMAGE) + channel_bytes
        weights = load_word(at + 8 * step.WEIGHTS) + first_group * lanes * weight_bytes_per_channel
        zeros = load_word(at + 8 * step.ZEROS)
        pad_top = load_word(at + 8 * PAD_TOP)
        first_row = load_word(at + 8 * FIRST_ROW)
        map_sums, sums_row = load_word(at + 8 * step.EXTRA), groups * lanes * 4
        if map_sums != 0:
            map_sums += image * load_word(at + 8 * step.EXTRA_IMAGE) + channel_bytes + first_row * sums_row
        ring, phase = load_word(at + 8 * X_RING), load_word(at + 8 * X_PHASE)
        pointers = thread + _ROW_POINTERS
        begin, end = row_block * out_height // row_blocks, (row_block + 1) * out_height // row_blocks
        # A map of one row: both rows of the tile are written to the same place, the valid one last.
        tile_out_row = out_row if out_height > 1 else 0
        tile_sums_row = sums_row if out_height > 1 else 0
        for y0 in range(begin, end, tile_rows):
            y = max(0, min(y0, end - tile_rows))
            sums = map_sums + y * sums_row if map_sums != 0 else 0
            for r in range(input_rows):
                iy = (first_row + y) * stride - pad_top + r
                source = x + ((iy + phase) % ring) * x_row
                if iy < 0 or iy >= height:
                    source = zeros
                store_word(pointers + 8 * r, source)
            for x0 in range(0, out_width, tile_width):
                first = min(x0, out_width - tile_width)
                column = first * stride - left
                lacks_left, lacks_right = column < 0, column + input_columns > width
                target = out + y * out_row + first * out_pixel
                offset = column * x_pixel
                if lacks_left and lacks_right:
                    whole(
                        pointers, offset, weights, target, channels, x_pixel, tile_out_row, out_pixel, at,
                        sums, tile_sums_row, x0, x0 - first,
                    )  # fmt: skip
                elif lacks_left:
                    leftmost(
                        pointers, offset, weights, target, channels, x_pixel, tile_out_row, out_pixel, at,
                        sums, tile_sums_row, x0, x0 - first,
                    )  # fmt: skip
                elif lacks_right:
                    rightmost(
                        pointers, offset, weights, target, channels, x_pixel, tile_out_row, out_pixel, at,
                        sums, tile_sums_row, x0, x0 - first,
                    )  # fmt: skip
                else:
                    inner(
                        pointers, offset, weights, target, channels, x_pixel, tile_out_row, out_pixel, at,
                        sums, tile_sums_row, x0, x0 - first,
                    )  # fmt: skip

    return kernel
