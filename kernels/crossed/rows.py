"""Rows of the crossed kernel: a pointwise convolution whose products are paired, so that adders share the work.

Winograd ("A new algorithm for inner product", 1968): two products of an inner product are one of sums,

    x1 w1 + x2 w2 = (x1 + w2) (x2 + w1) - x1 x2 - w1 w2,

and what is subtracted is the same for all outputs of a pixel, or for all pixels of an output. So two channels take one
multiply-add and two additions. Where a CPU adds on other units than it multiplies, a third of the channels multiplied
plainly beside two thirds that are paired keeps both busy: a third less time than multiply-adds alone.

Sums of pixels and weights round well only where both are of one size. Each pixel is therefore multiplied with a power
of two that takes its Euclidean norm to [1, 2), and each output's weights are, when they are packed; the result is
multiplied with both powers' inverses. Every second pair is subtracted, with its weights negated, so that products of
pixels that are all positive do not add up. The error bound is then that of a plain inner product within a small factor:
|error| <= c K u |x| |w| with Euclidean norms. Pixels of a norm beyond 2^64 lose digits, and infinities become NaN.

A thread first writes the pixels of some tiles to its scratch memory, scaled and in the order in which tiles read them,
each tile: HEAD_BYTES of numbers for its rows, then [blocks of 8 triples][rows][3][8]. A triple is channels i, i + third
and i + 2 third: a pair and a plain one. So results depend neither on tiles nor on threads.

Operands and words of a step are the pointwise kernel's, with these: FACTORS, where its address is not 0, float32 [K] to
multiply each pixel's channels with; SCRATCH, where in a thread's scratch memory its pixels are; CHUNK, of how many
tiles at a time. OUT overlaps neither X nor EXTRA.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from sepcore.kernels import isa as isas
from sepcore.kernels import step
from sepcore.kernels.crossed.balance import HEAD_ROWS
from sepcore.kernels.isa import Isa
from sepcore.kernels.pointwise.rows import (
    AHEAD,
    EXTRA_STRIDE,
    OUT_STRIDE,
    PANEL_BLOCKS,
    PANELS,
    PREFETCH_SHIFT,
    ROW_BLOCKS,
    X_STRIDE,
    K,
    M,
    Tile,
)
from sepcore.kernels.spec import KernelSpec

SCRATCH, CHUNK = range(AHEAD + 2, AHEAD + 4)
FACTORS, FACTORS_IMAGE = range(AHEAD + 4, AHEAD + 6)

PRODUCTS, PLAIN_PRODUCTS = 2, 3
"""Multiply-adds of a triple, and how many a plain layer has of them."""

NAME = "f32_crossed_"
"""Begins the names of the rows."""

HEAD_BYTES = 192
"""Before a tile's pixels: for each row minus its crossed products, the inverse of its scale, and the scale."""

SUM_BYTES = 256
"""Scratch memory before the first tile's."""

# One vector wide: a broadcast that is an operand takes no unit of its own, one in a register does (Zen 4).
_ROWS = {"avx512": (7, 10, 12, 13, 14)}


def tiles(isa: str) -> list[Tile]:
    """Every tile of an instruction set; none where there is no use for it."""
    return [Tile(rows, 1) for rows in _ROWS.get(isa, ())]


def third(k: int) -> int:
    """Triples of ``k`` channels, an even number of them: missing channels count as zeros."""
    return (k + 5) // 6 * 2


def panel_rows(k: int) -> int:
    """Rows of a packed panel."""
    return HEAD_ROWS + 3 * third(k)


def scratch_bytes(rows: int, k: int, lanes: int, tiles: int) -> int:
    """Of a thread, for the pixels of so many tiles."""
    return SUM_BYTES + tiles * tile_bytes(rows, third(k), lanes)


def tile_bytes(rows: int, triples: int, lanes: int) -> int:
    """Scratch memory of a tile's pixels, in whole registers."""
    return HEAD_BYTES + (triples + lanes - 1) // lanes * rows * 12 * lanes


def row(tile: Tile, isa: str) -> KernelSpec:
    """The row of a tile."""
    name = f"{NAME}{tile.rows}x{tile.columns(isas.by_name(isa).lanes)}__{isa}"
    return KernelSpec(name, "crossed", isa, tile, _build)


def rows(isa: str) -> Iterator[KernelSpec]:
    """Every row of an instruction set."""
    return (row(tile, isa) for tile in tiles(isa))


def _build(spec: KernelSpec) -> Callable[[int, int, int, int], None]:
    from numba.extending import register_jitable

    from sepcore.kernels.crossed.pixels import preparing
    from sepcore.kernels.crossed.tile import crossed_tile
    from sepcore.kernels.words import load_word

    isa: Isa = isas.by_name(spec.isa)
    tile: Tile = spec.parameters
    multiply: Any = crossed_tile(tile, isa)
    prepare: Any = preparing(tile, isa)
    triples_of, bytes_of_tile = register_jitable(third), register_jitable(tile_bytes)
    mr, lanes, column_bytes = tile.rows, isa.lanes, 4 * isa.lanes

    def kernel(at: int, index: int, thread: int, image: int) -> None:
        x = load_word(at + 8 * step.X) + image * load_word(at + 8 * step.X_IMAGE)
        out = load_word(at + 8 * step.OUT) + image * load_word(at + 8 * step.OUT_IMAGE)
        extra = load_word(at + 8 * step.EXTRA)
        if extra != 0:
            extra += image * load_word(at + 8 * step.EXTRA_IMAGE)
        factors = load_word(at + 8 * FACTORS)
        if factors != 0:
            factors += image * load_word(at + 8 * FACTORS_IMAGE)
        weights = load_word(at + 8 * step.WEIGHTS)
        m, k = load_word(at + 8 * M), load_word(at + 8 * K)
        x_stride, out_stride = load_word(at + 8 * X_STRIDE), load_word(at + 8 * OUT_STRIDE)
        extra_stride = load_word(at + 8 * EXTRA_STRIDE)
        row_blocks, panel_blocks = load_word(at + 8 * ROW_BLOCKS), load_word(at + 8 * PANEL_BLOCKS)
        panels, shift = load_word(at + 8 * PANELS), load_word(at + 8 * PREFETCH_SHIFT)
        sums = load_word(thread + 8 * step.THREAD_SCRATCH) + load_word(at + 8 * SCRATCH)
        pixels = sums + SUM_BYTES
        chunk = load_word(at + 8 * CHUNK)
        triples = triples_of(k)
        size = bytes_of_tile(mr, triples, lanes)
        panel_bytes = (HEAD_ROWS + 3 * triples) * column_bytes
        ahead = load_word(at + 8 * AHEAD)
        if ahead == 0:
            ahead = weights
        line_bytes = (triples >> shift) * 64
        # Blocks of the same pixels follow each other, so that a thread mostly has pixels of its own.
        units, block, part = (m + mr - 1) // mr, index // panel_blocks, index % panel_blocks
        begin, end = block * units // row_blocks * mr, (block + 1) * units // row_blocks * mr
        if block == row_blocks - 1:
            end = m
        x += begin * x_stride
        out += begin * out_stride
        if extra != 0:
            extra += begin * extra_stride
        last, tiles, tiles_down = end - begin - mr, (end - begin + mr - 1) // mr, (m + mr - 1) // mr
        first = 0
        while first < tiles:
            count = min(chunk, tiles - first)
            for i in range(count):
                row = x + min((first + i) * mr, last) * x_stride
                prepare(row, x_stride, k, triples, factors, sums, pixels + i * size)
            for p in range(part * panels // panel_blocks, (part + 1) * panels // panel_blocks):
                residual = extra
                if extra != 0:
                    residual = extra + p * column_bytes
                multiply(
                    pixels, size, count, first * mr, last, weights + p * panel_bytes, triples,
                    out + p * column_bytes, out_stride, residual, extra_stride, at,
                    ahead + (p * tiles_down + begin // mr + first) * line_bytes, shift,
                )  # fmt: skip
            first += count

    return kernel
