"""Rows of the pointwise kernel: which tiles exist for each instruction set, and their loop over row and panel blocks.

Operands of a step: X float32 pixels [m][x_stride], WEIGHTS as ``pack`` lays them out, OUT [m][out_stride], EXTRA an
optional residual [m][extra_stride]. Strides are in bytes, multiples of the vector; channels past the last are padding
that may hold any finite value. OUT overlaps neither X nor EXTRA. A ``gathered`` row reads input channels that are not
next to each other: COLUMNS is the address of a table of int64, the bytes from a pixel's start to each of the K channels
and one number more, which is read and not used. From AHEAD on, where it is not 0, memory is asked for on the way: it
may be any address.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from sepcore.kernels import isa as isas
from sepcore.kernels import step
from sepcore.kernels.spec import KernelSpec

(
    M, K, X_STRIDE, OUT_STRIDE, EXTRA_STRIDE, PANELS, ROW_BLOCKS, PANEL_BLOCKS, PREFETCH_SHIFT, COLUMNS, AHEAD,
) = range(step.FIRST_SHAPE, step.FIRST_SHAPE + 11)  # fmt: skip

NO_PREFETCH = 62
"""The PREFETCH_SHIFT of a step that asks for one line, again and again."""


@dataclass(frozen=True)
class Tile:
    """``rows`` pixels by ``vectors`` whole vectors of output channels.

    Attributes
    ----------
    pair : half a vector more. That of two neighbouring pixels shares one register (rows must be even): lanes are not
        wasted on channel counts that end in half a vector.
    narrow : vectors have half the lanes, which costs nothing where the CPU takes two passes over whole ones.
    """

    rows: int
    vectors: int
    pair: bool = False
    narrow: bool = False

    def lanes(self, lanes: int) -> int:
        """Of its registers, where those of the instruction set have ``lanes``."""
        return lanes // 2 if self.narrow else lanes

    def columns(self, lanes: int) -> int:
        """Output channels of the tile."""
        return self.vectors * self.lanes(lanes) + (lanes // 2 if self.pair else 0)

    def packed_columns(self, lanes: int) -> int:
        """Floats per input channel in the packed weights: the half vector is stored twice, once for each pixel."""
        return (self.vectors + self.pair) * self.lanes(lanes)


# Accumulators, the weight vectors and one or two broadcasts fill the registers; more would spill (a test looks).
_ROWS: dict[str, dict[int, tuple[int, ...]]] = {
    "avx512": {
        1: (1, 2, 4, 7, 14, 24),
        2: (1, 2, 4, 6, 7, 8, 14),
        3: (1, 2, 4, 7, 8, 9),
        4: (1, 2, 4, 6),
        5: (1, 2, 5),
        7: (1, 2, 3),
    },
    "avx2": {1: (1, 2, 4, 8, 12), 2: (1, 2, 4, 5, 6), 3: (1, 2, 4)},
    "neon": {1: (1, 2, 4, 8), 2: (1, 2, 4, 8), 4: (1, 2, 4)},
    "portable": {1: (1, 2, 4, 8), 2: (1, 2, 4, 5)},
}
_PAIRS = {"avx512": {1: (2, 6, 8, 10, 14), 2: (2, 4, 6, 8, 10)}}
_NARROW = {"avx512": {3: (4, 7, 8, 9), 5: (4, 5)}}


def tiles(isa: str) -> list[Tile]:
    """Every tile of an instruction set."""
    kinds = ((_ROWS, False, False), (_PAIRS, True, False), (_NARROW, False, True))
    return [
        Tile(rows, vectors, pair, narrow)
        for table, pair, narrow in kinds
        for vectors, many in table.get(isa, {}).items()
        for rows in many
    ]


# Few networks gather, so few tiles do; with more rows the loads take longer than the products (18x24: 71 % of peak
# where 10x40 has 85).
_GATHERED = {
    "avx512": ((1, 1), (1, 2), (14, 1), (7, 2), (14, 2), (9, 3)),
    "avx2": ((1, 1), (4, 1), (12, 1), (4, 2), (6, 2)),
    "neon": ((1, 1), (8, 1), (4, 2), (8, 2)),
    "portable": ((1, 1), (4, 1), (8, 1), (5, 2)),
}
_GATHERED_PAIRS = {"avx512": ((10, 2),)}


def gathered_tiles(isa: str) -> list[Tile]:
    """Every tile that also gathers."""
    whole = [Tile(rows, vectors) for rows, vectors in _GATHERED[isa]]
    return whole + [Tile(rows, vectors, True) for rows, vectors in _GATHERED_PAIRS.get(isa, ())]


def row(tile: Tile, isa: str, gathered: bool = False) -> KernelSpec:
    """The row of a tile."""
    op = "pointwise_gathered" if gathered else "pointwise"
    narrow = "n" if tile.narrow else ""
    name = f"f32_{op}_{tile.rows}x{tile.columns(isas.by_name(isa).lanes)}{narrow}__{isa}"
    return KernelSpec(name, op, isa, tile, _build)


def rows(isa: str) -> Iterator[KernelSpec]:
    """Every pointwise row of an instruction set."""
    yield from (row(tile, isa) for tile in tiles(isa))
    yield from (row(tile, isa, gathered=True) for tile in gathered_tiles(isa))


def _build(spec: KernelSpec) -> Callable[[int, int, int, int], None]:
    from sepcore.kernels.pointwise.tile import pointwise_tile
    from sepcore.kernels.words import load_word

    isa = isas.by_name(spec.isa)
    tile: Tile = spec.parameters
    panel: Any = pointwise_tile(tile, isa, gathered=spec.op == "pointwise_gathered")
    mr = tile.rows
    column_bytes = 4 * tile.columns(isa.lanes)
    packed_bytes = 4 * tile.packed_columns(isa.lanes)

    def kernel(at: int, index: int, thread: int, image: int) -> None:
        x = load_word(at + 8 * step.X) + image * load_word(at + 8 * step.X_IMAGE)
        out = load_word(at + 8 * step.OUT) + image * load_word(at + 8 * step.OUT_IMAGE)
        extra = load_word(at + 8 * step.EXTRA)
        if extra != 0:
            extra += image * load_word(at + 8 * step.EXTRA_IMAGE)
        weights = load_word(at + 8 * step.WEIGHTS)
        m, k = load_word(at + 8 * M), load_word(at + 8 * K)
        x_stride, out_stride = load_word(at + 8 * X_STRIDE), load_word(at + 8 * OUT_STRIDE)
        extra_stride = load_word(at + 8 * EXTRA_STRIDE)
        row_blocks, panel_blocks = load_word(at + 8 * ROW_BLOCKS), load_word(at + 8 * PANEL_BLOCKS)
        panels, shift = load_word(at + 8 * PANELS), load_word(at + 8 * PREFETCH_SHIFT)
        panel_bytes = (k + 1) * packed_bytes
        # The last block takes the pixels that fill no tile: a tile moved up over another thread's would activate twice.
        units, block = m // mr, index % row_blocks
        begin, end = block * units // row_blocks * mr, (block + 1) * units // row_blocks * mr
        if block == row_blocks - 1:
            end = m
        if begin == end:
            return
        part = index // row_blocks
        ahead = load_word(at + 8 * AHEAD)
        if ahead == 0:
            ahead = weights
        tiles_down, line_bytes = (m + mr - 1) // mr, (k >> shift) * 64
        for p in range(part * panels // panel_blocks, (part + 1) * panels // panel_blocks):
            residual = extra
            if extra != 0:
                residual = extra + begin * extra_stride + p * column_bytes
            panel(
                x + begin * x_stride, x_stride, end - begin, weights + p * panel_bytes, k,
                out + begin * out_stride + p * column_bytes, out_stride, residual, extra_stride,
                at, ahead + (p * tiles_down + begin // mr) * line_bytes, shift,
            )  # fmt: skip

    return kernel
