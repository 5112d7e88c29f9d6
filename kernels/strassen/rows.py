"""Rows of the Strassen kernels: the sums of a map's quarters, and the tiles of seven products.

C = A B for A [m][k], B [k][n], all three even. With halves in each direction, Winograd's form of the algorithm
(Strassen, "Gaussian elimination is not optimal", 1969; Winograd, "On multiplication of 2 x 2 matrices", 1971) is

    S1 = A21 + A22    T1 = B12 - B11    P1 = A11 B11    P5 = S1 T1     C11 = P1 + P2
    S2 = S1 - A11     T2 = B22 - T1     P2 = A12 B21    P6 = S2 T2     C12 = P1 + P6 + P5 + P3
    S3 = A11 - A21    T3 = B22 - B12    P3 = S4 B22     P7 = S3 T3     C21 = P1 + P6 + P7 - P4
    S4 = A12 - S2     T4 = T2 - B21     P4 = A22 T4                    C22 = P1 + P6 + P7 + P5

The halves of A are pixels of the even and of the odd rows of a map, two neighbouring rows at a time, and the first and
second half of the channels. So results depend neither on tiles nor on threads.
A ``sums`` row writes S1 to S4 and the packed weights hold what is multiplied, so a tile's seven products accumulate in
registers like one product of a pointwise kernel; between them sums go to scratch memory, which stays in the first
cache.

Operands of ``sums``: X float32 pixels [2 * pairs][m][x_stride], OUT [pairs][4][m][out_stride].
Operands of ``product``: X as above, SUMS the S of it, WEIGHTS as ``pack`` lays them out, OUT
[2 * pairs][m][out_stride], EXTRA an optional residual [2 * pairs][m][extra_stride]. Strides are in bytes. Words are the
pointwise kernel's: M is the width of the map, which the tile's rows divide, K and PANELS are those of a half; and
SUM_STRIDE and PAIRS. OUT overlaps neither X, SUMS nor EXTRA. From AHEAD on, where it is not 0, memory is asked for on
the way: it may be any address.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from sepcore.kernels import isa as isas
from sepcore.kernels import step
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

SUMS, _SUMS_IMAGE, SUM_STRIDE, PAIRS = range(AHEAD + 2, AHEAD + 6)

PRODUCTS = 7
"""Of halves, that make the whole product."""

_PRODUCT = "f32_strassen_"

# Low ones: each product begins to read other rows, and more than eight at a time are not loaded ahead of their use.
# Fewer registers hold no tile that divides the rows of a map and keeps both units for multiply-adds busy.
_ROWS_AND_VECTORS = {"avx512": ((7, 1), (4, 2), (6, 2), (7, 2), (8, 2), (4, 3), (7, 3))}


def tiles(isa: str) -> list[Tile]:
    """Every tile of an instruction set; none where there is no use for it."""
    return [Tile(rows, vectors) for rows, vectors in _ROWS_AND_VECTORS.get(isa, ())]


def scratch_bytes(tile: Tile, lanes: int) -> int:
    """Of each thread: a tile's sums in four quarters."""
    return 16 * tile.rows * tile.columns(lanes)


def multiply_adds(kernel: str, macs: int) -> int:
    """What the row ``kernel`` does for a layer of ``macs``; all of them where it is none of these."""
    return macs * PRODUCTS // 8 if kernel.startswith(_PRODUCT) else macs


def product_row(tile: Tile, isa: str) -> KernelSpec:
    """The row of a tile."""
    name = f"{_PRODUCT}{tile.rows}x{tile.columns(isas.by_name(isa).lanes)}__{isa}"
    return KernelSpec(name, "strassen", isa, tile, _build_product)


def sums_row(isa: str) -> KernelSpec:
    """The row that adds up quarters of a map."""
    return KernelSpec(f"f32_sums_of_quarters__{isa}", "sums_of_quarters", isa, None, _build_sums)


def rows(isa: str) -> Iterator[KernelSpec]:
    """Every row of an instruction set."""
    if tiles(isa):
        yield sums_row(isa)
    yield from (product_row(tile, isa) for tile in tiles(isa))


def _build_sums(spec: KernelSpec) -> Callable[[int, int, int, int], None]:
    from sepcore.kernels.simd import lanes_of
    from sepcore.kernels.words import load_word

    v = lanes_of(isas.by_name(spec.isa))
    load, store, add, sub, width = v.load, v.store, v.add, v.sub, v.width

    def kernel(at: int, index: int, thread: int, image: int) -> None:
        x = load_word(at + 8 * step.X) + image * load_word(at + 8 * step.X_IMAGE)
        out = load_word(at + 8 * step.OUT) + image * load_word(at + 8 * step.OUT_IMAGE)
        m, k = load_word(at + 8 * M), load_word(at + 8 * K)
        pixels, blocks = m * load_word(at + 8 * PAIRS), load_word(at + 8 * ROW_BLOCKS)
        x_stride, out_stride = load_word(at + 8 * X_STRIDE), load_word(at + 8 * OUT_STRIDE)
        plane = m * out_stride
        for i in range(index * pixels // blocks, (index + 1) * pixels // blocks):
            pair, r = i // m, i % m
            upper, sums = x + (2 * pair * m + r) * x_stride, out + (4 * pair * m + r) * out_stride
            lower = upper + m * x_stride
            for c in range(0, k, width):
                # The last vector is moved up to end with the half, where that is no multiple of the vector.
                at_c = 4 * min(c, k - width)
                a11, a12 = load(upper + at_c), load(upper + 4 * k + at_c)
                a21, a22 = load(lower + at_c), load(lower + 4 * k + at_c)
                s1 = add(a21, a22)
                s2 = sub(s1, a11)
                store(sums + at_c, s1)
                store(sums + plane + at_c, s2)
                store(sums + 2 * plane + at_c, sub(a11, a21))
                store(sums + 3 * plane + at_c, sub(a12, s2))

    return kernel


def _build_product(spec: KernelSpec) -> Callable[[int, int, int, int], None]:
    from sepcore.kernels.strassen.tile import strassen_tile
    from sepcore.kernels.words import load_word

    isa = isas.by_name(spec.isa)
    tile: Tile = spec.parameters
    tile_of_quarters: Any = strassen_tile(tile, isa)
    mr = tile.rows
    column_bytes = 4 * tile.columns(isa.lanes)

    def kernel(at: int, index: int, thread: int, image: int) -> None:
        x = load_word(at + 8 * step.X) + image * load_word(at + 8 * step.X_IMAGE)
        sums = load_word(at + 8 * SUMS) + image * load_word(at + 8 * _SUMS_IMAGE)
        out = load_word(at + 8 * step.OUT) + image * load_word(at + 8 * step.OUT_IMAGE)
        extra = load_word(at + 8 * step.EXTRA)
        if extra != 0:
            extra += image * load_word(at + 8 * step.EXTRA_IMAGE)
        weights = load_word(at + 8 * step.WEIGHTS)
        m, k = load_word(at + 8 * M), load_word(at + 8 * K)
        x_stride, out_stride = load_word(at + 8 * X_STRIDE), load_word(at + 8 * OUT_STRIDE)
        extra_stride, sum_stride = load_word(at + 8 * EXTRA_STRIDE), load_word(at + 8 * SUM_STRIDE)
        row_blocks, panel_blocks = load_word(at + 8 * ROW_BLOCKS), load_word(at + 8 * PANEL_BLOCKS)
        panels, shift = load_word(at + 8 * PANELS), load_word(at + 8 * PREFETCH_SHIFT)
        scratch = load_word(thread + 8 * step.THREAD_SCRATCH)
        panel_bytes = (PRODUCTS * k + 2) * column_bytes
        ahead = load_word(at + 8 * AHEAD)
        if ahead == 0:
            ahead = weights
        tiles_across = m // mr
        tiles, line_bytes = tiles_across * load_word(at + 8 * PAIRS), PRODUCTS * (k >> shift) * 64
        # Blocks of the same pixels follow each other: a thread takes neighbouring ones, and reads each panel once.
        block, part = index // panel_blocks, index % panel_blocks
        for p in range(part * panels // panel_blocks, (part + 1) * panels // panel_blocks):
            for i in range(block * tiles // row_blocks, (block + 1) * tiles // row_blocks):
                pair, first = i // tiles_across, i % tiles_across * mr
                pixel = 2 * pair * m + first
                residual = extra
                if extra != 0:
                    residual = extra + pixel * extra_stride + p * column_bytes
                tile_of_quarters(
                    x + pixel * x_stride, x_stride, m * x_stride + 4 * k,
                    sums + (4 * pair * m + first) * sum_stride, sum_stride, m * sum_stride,
                    weights + p * panel_bytes, k,
                    out + pixel * out_stride + p * column_bytes, out_stride, m * out_stride, panels * column_bytes,
                    residual, extra_stride, m * extra_stride,
                    scratch, at, ahead + (p * tiles + i) * line_bytes, shift,
                )  # fmt: skip

    return kernel
