"""Rows of dense 3x3 convolutions with a stride of two, four output pixels at a time: 25 products instead of 36.

In one direction, two outputs y of five inputs d and three weights g are (a filter of two taps on the even inputs by
Winograd's F(2, 2), and one of one tap on the odd ones; Winograd, "Arithmetic complexity of computations", 1980, and
Lavin and Gray, "Fast algorithms for convolutional neural networks", 2016, for both directions)

    y0 = A + C    A = (d0 - d2) g0 + d1 g1
    y1 = B + C    B = (d4 - d2) g2 + d3 g1    C = d2 (g0 + g2)

In both directions that makes nine sums of products, of which each output takes four. For a tile of neighbouring blocks
of 2x2 outputs the differences are written to scratch memory, so that each sum is like a product of a pointwise kernel.
Blocks begin at even rows and columns of the whole map: results depend neither on tiles nor on threads or bands.

Operands and words of a step are those of the dense kernel, with these bounds: K is a multiple of the lanes, height and
width of the result are even, the tile's rows divide half of its width, a band begins at an even row, GROUPS is 1, and
TABLE is where the differences stand in the scratch memory, as many bytes into it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from sepcore.kernels import isa as isas
from sepcore.kernels import step
from sepcore.kernels.conv.dense import (
    EXTRA_PIXEL,
    FIRST_ROW,
    HEIGHT,
    OUT_PIXEL,
    OUT_WIDTH,
    PAD_LEFT,
    PAD_TOP,
    PANELS,
    ROW_BLOCKS,
    TABLE,
    WIDTH,
    X_PHASE,
    X_PIXEL,
    X_RING,
    X_ROW,
    K,
    M,
)
from sepcore.kernels.pointwise.rows import Tile
from sepcore.kernels.spec import KernelSpec
from sepcore.kernels.winograd.differences import ADDRESSES_BYTES

PRODUCTS, PLAIN_PRODUCTS = 25, 36
"""Of an input and an output channel, for a block of four outputs, and how many a plain layer has of them."""

SUMS = 9
"""Of products, that are added up apart."""

NAME = "f32_winograd_k3s2_"
"""Begins the names of the rows."""

# Each product begins to read other rows, and more than eight at a time are not loaded ahead of their use.
_ROWS_AND_VECTORS = {"avx512": ((4, 2), (6, 2), (7, 2), (8, 2), (4, 3), (7, 3))}


def tiles(isa: str) -> list[Tile]:
    """Every tile of an instruction set, its rows blocks of 2x2 outputs; none where there is no use for it."""
    return [Tile(rows, vectors) for rows, vectors in _ROWS_AND_VECTORS.get(isa, ())]


def sums_bytes(tile: Tile, lanes: int) -> int:
    """Scratch memory of five tiles of sums."""
    return 20 * tile.rows * tile.columns(lanes)


def scratch_bytes(tile: Tile, lanes: int, k: int) -> int:
    """Of each thread: a tile's differences, its sums, and the addresses of a block's inputs."""
    return 4 * PRODUCTS * tile.rows * k + sums_bytes(tile, lanes) + ADDRESSES_BYTES


def row(tile: Tile, isa: str) -> KernelSpec:
    """The row of a tile."""
    name = f"{NAME}{tile.rows}x{tile.columns(isas.by_name(isa).lanes)}__{isa}"
    return KernelSpec(name, "winograd", isa, tile, _build)


def rows(isa: str) -> Iterator[KernelSpec]:
    """Every row of an instruction set."""
    return (row(tile, isa) for tile in tiles(isa))


def _build(spec: KernelSpec) -> Callable[[int, int, int, int], None]:
    from sepcore.kernels.winograd.differences import differences_of
    from sepcore.kernels.winograd.tile import winograd_tile
    from sepcore.kernels.words import load_word, store_word

    isa = isas.by_name(spec.isa)
    tile: Tile = spec.parameters
    tile_of_blocks: Any = winograd_tile(tile, isa)
    differences: Any = differences_of(isa)
    mr = tile.rows
    column_bytes, kept_bytes = 4 * tile.columns(isa.lanes), sums_bytes(tile, isa.lanes)

    def kernel(at: int, index: int, thread: int, image: int) -> None:
        x = load_word(at + 8 * step.X) + image * load_word(at + 8 * step.X_IMAGE)
        out = load_word(at + 8 * step.OUT) + image * load_word(at + 8 * step.OUT_IMAGE)
        extra = load_word(at + 8 * step.EXTRA)
        if extra != 0:
            extra += image * load_word(at + 8 * step.EXTRA_IMAGE)
        weights, zeros = load_word(at + 8 * step.WEIGHTS), load_word(at + 8 * step.ZEROS)
        height, width, out_width = load_word(at + 8 * HEIGHT), load_word(at + 8 * WIDTH), load_word(at + 8 * OUT_WIDTH)
        k, panels, blocks = load_word(at + 8 * K), load_word(at + 8 * PANELS), load_word(at + 8 * ROW_BLOCKS)
        x_pixel, x_row = load_word(at + 8 * X_PIXEL), load_word(at + 8 * X_ROW)
        out_pixel, extra_pixel = load_word(at + 8 * OUT_PIXEL), load_word(at + 8 * EXTRA_PIXEL)
        pad_top, pad_left = load_word(at + 8 * PAD_TOP), load_word(at + 8 * PAD_LEFT)
        first_row, ring, phase = load_word(at + 8 * FIRST_ROW), load_word(at + 8 * X_RING), load_word(at + 8 * X_PHASE)
        block_bytes = 4 * PRODUCTS * k
        blocks_at = load_word(thread + 8 * step.THREAD_SCRATCH) + load_word(at + 8 * TABLE)
        kept = blocks_at + mr * block_bytes
        table = kept + kept_bytes
        panel_bytes = (1 + PRODUCTS * k) * column_bytes
        across = out_width // 2 // mr
        units = load_word(at + 8 * M) // (2 * out_width) * across
        for unit in range(index * units // blocks, (index + 1) * units // blocks):
            pair, first = unit // across, unit % across * mr
            top = 2 * (first_row + 2 * pair) - pad_top
            for i in range(mr):
                left = 4 * (first + i) - pad_left
                for r in range(5):
                    row, entry = top + r, table + 40 * r
                    inside = 0 <= row < height
                    source = x + ((row + phase) % ring) * x_row
                    for column in range(left, left + 5):
                        if inside and 0 <= column < width:
                            store_word(entry, source + column * x_pixel)
                        else:
                            store_word(entry, zeros)
                        entry += 8
                differences(table, blocks_at + i * block_bytes, k)
            pixel = 2 * (pair * out_width + first)
            for p in range(panels):
                residual = extra
                if extra != 0:
                    residual = extra + pixel * extra_pixel + p * column_bytes
                tile_of_blocks(
                    blocks_at, block_bytes, weights + p * panel_bytes, k,
                    out + pixel * out_pixel + p * column_bytes, out_pixel, out_width * out_pixel,
                    residual, extra_pixel, out_width * extra_pixel, kept, at,
                )  # fmt: skip

    return kernel
