"""Rows of the Strassen kernel: the sums of a map's quarters, and tiles of seven products.

C = A B for A [m][k], B [k][n], all three even. With halves in each direction, Winograd's form of the algorithm
(Strassen, "Gaussian elimination is not optimal", 1969; Winograd, "On multiplication of 2 x 2 matrices", 1971) is

    S1 = A21 + A22    T1 = B12 - B11    P1 = A11 B11    P5 = S1 T1     C11 = P1 + P2
    S2 = S1 - A11     T2 = B22 - T1     P2 = A12 B21    P6 = S2 T2     C12 = P1 + P6 + P5 + P3
    S3 = A11 - A21    T3 = B22 - B12    P3 = S4 B22     P7 = S3 T3     C21 = P1 + P6 + P7 - P4
    S4 = A12 - S2     T4 = T2 - B21     P4 = A22 T4                    C22 = P1 + P6 + P7 + P5

The halves of A are the even and the odd pixels of a map, and the first and second half of the channels: results depend
neither on tiles nor on threads. Of an odd number of pixels the last is paired with zeros.
The sums of the pixels that a thread multiplies go to its scratch memory first, where no other thread's cache has them;
the packed weights hold what is multiplied. So a tile's seven products accumulate in registers like one product of a
pointwise kernel; between them its sums go to scratch memory too.

Operands of a step: X float32 pixels [2 m][x_stride], WEIGHTS as ``pack`` lays them out, OUT [2 m][out_stride], EXTRA an
optional residual [2 m][extra_stride]. Strides are in bytes. Words are the pointwise kernel's: M is the number of pairs,
which the tile's rows divide, K and PANELS are those of a half; and SUM_STRIDE and PIXELS. Where PIXELS is odd, the
memory behind the last pixel of X, OUT and EXTRA is read and overwritten like one more; what it holds does not matter.
OUT overlaps neither X nor EXTRA. From AHEAD on, where it is not 0, memory is asked for on the way: any address will do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from sepcore.kernels import isa as isas
from sepcore.kernels import step
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

SUM_STRIDE, PIXELS = range(AHEAD + 2, AHEAD + 4)

PRODUCTS, PLAIN_PRODUCTS = 7, 8
"""Of halves, that make the whole product, and how many a plain layer has of them."""

NAME = "f32_strassen_"
"""Begins the names of the rows."""

# Low ones: each product begins to read other rows, and more than eight at a time are not loaded ahead of their use.
# Fewer registers hold no tile that keeps both units for multiply-adds busy. Five rows divide the 25 pairs of a 7x7 map.
_ROWS_AND_VECTORS = {"avx512": ((7, 1), (4, 2), (5, 2), (6, 2), (7, 2), (8, 2), (4, 3), (5, 3), (7, 3), (5, 4), (5, 5))}


def tiles(isa: str) -> list[Tile]:
    """Every tile of an instruction set; none where there is no use for it."""
    return [Tile(rows, vectors) for rows, vectors in _ROWS_AND_VECTORS.get(isa, ())]


def kept_bytes(tile: Tile, lanes: int) -> int:
    """Scratch memory for a tile's sums in four quarters."""
    return 16 * tile.rows * tile.columns(lanes)


def scratch_bytes(tile: Tile, lanes: int, pairs: int, sum_stride: int) -> int:
    """Of each thread: S1 to S4 of as many pairs of pixels as a block has, and a tile's sums in four quarters."""
    return 4 * pairs * sum_stride + kept_bytes(tile, lanes)


def row(tile: Tile, isa: str) -> KernelSpec:
    """The row of a tile."""
    name = f"{NAME}{tile.rows}x{tile.columns(isas.by_name(isa).lanes)}__{isa}"
    return KernelSpec(name, "strassen", isa, tile, _build)


def rows(isa: str) -> Iterator[KernelSpec]:
    """Every row of an instruction set."""
    return (row(tile, isa) for tile in tiles(isa))


def _sums(isa: Isa) -> Any:
    """``sums(x, x_stride, pairs, missing, k, out, out_stride)``: S1 to S4 of pairs of pixels, each [pairs][out_stride].

    Of the last pair the second pixel is ``missing``, where that is not 0.
    """
    import numpy as np
    from numba.extending import register_jitable

    from sepcore.kernels.simd import lanes_of

    v = lanes_of(isa)
    load, store, splat, add, sub, width = v.load, v.store, v.splat, v.add, v.sub, v.width
    zero = np.float32(0.0)

    @register_jitable(error_model="numpy")
    def sums(x: int, x_stride: int, pairs: int, missing: int, k: int, out: int, out_stride: int) -> None:
        plane = pairs * out_stride
        for i in range(pairs):
            even, to = x + 2 * i * x_stride, out + i * out_stride
            odd = even + x_stride
            for c in range(0, k, width):
                # The last vector is moved up to end with the half, where that is no multiple of the vector.
                at_c = 4 * min(c, k - width)
                a11, a12 = load(even + at_c), load(even + 4 * k + at_c)
                a21, a22 = splat(zero), splat(zero)
                if missing == 0 or i < pairs - 1:
                    a21, a22 = load(odd + at_c), load(odd + 4 * k + at_c)
                s1 = add(a21, a22)
                s2 = sub(s1, a11)
                store(to + at_c, s1)
                store(to + plane + at_c, s2)
                store(to + 2 * plane + at_c, sub(a11, a21))
                store(to + 3 * plane + at_c, sub(a12, s2))

    return sums


def _build(spec: KernelSpec) -> Callable[[int, int, int, int], None]:
    from sepcore.kernels.strassen.tile import strassen_tile
    from sepcore.kernels.words import load_word

    isa = isas.by_name(spec.isa)
    tile: Tile = spec.parameters
    tile_of_quarters: Any = strassen_tile(tile, isa)
    mr = tile.rows
    column_bytes, tile_bytes = 4 * tile.columns(isa.lanes), kept_bytes(tile, isa.lanes)
    add_up: Any = _sums(isa)

    def kernel(at: int, index: int, thread: int, image: int) -> None:
        x = load_word(at + 8 * step.X) + image * load_word(at + 8 * step.X_IMAGE)
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
        kept = load_word(thread + 8 * step.THREAD_SCRATCH)
        sums = kept + tile_bytes
        panel_bytes = (PRODUCTS * k + 2) * column_bytes
        ahead = load_word(at + 8 * AHEAD)
        if ahead == 0:
            ahead = weights
        tiles, line_bytes = m // mr, PRODUCTS * (k >> shift) * 64
        # Blocks of the same pixels follow each other, so that a thread mostly has pixels of its own.
        block, part = index // panel_blocks, index % panel_blocks
        first, end = block * tiles // row_blocks, (block + 1) * tiles // row_blocks
        pairs, missing = (end - first) * mr, 0
        if end == tiles and load_word(at + 8 * PIXELS) != 2 * m:
            missing = 1
        add_up(x + 2 * first * mr * x_stride, x_stride, pairs, missing, k, sums, sum_stride)
        for p in range(part * panels // panel_blocks, (part + 1) * panels // panel_blocks):
            for i in range(first, end):
                pixel = 2 * i * mr
                residual = extra
                if extra != 0:
                    residual = extra + pixel * extra_stride + p * column_bytes
                tile_of_quarters(
                    x + pixel * x_stride, 2 * x_stride, x_stride + 4 * k,
                    sums + (i - first) * mr * sum_stride, sum_stride, pairs * sum_stride,
                    weights + p * panel_bytes, k,
                    out + pixel * out_stride + p * column_bytes, 2 * out_stride, out_stride, panels * column_bytes,
                    residual, 2 * extra_stride, extra_stride,
                    kept, at, ahead + (p * tiles + i) * line_bytes, shift,
                )  # fmt: skip

    return kernel
