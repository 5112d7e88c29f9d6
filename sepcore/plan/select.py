"""Picks a kernel row for a shape by estimated cost; knows kernels and numbers, no graphs."""

from __future__ import annotations

from functools import cache

from sepcore.kernels import isa as isas
from sepcore.kernels.conv import dense
from sepcore.kernels.conv.stem import Stem, stems
from sepcore.kernels.depthwise.rows import Window, fits, windows
from sepcore.kernels.pointwise.rows import Tile, tiles

_FMA_LATENCY = 4.0  # cycles until a sum can be added to again
_TILE_OVERHEAD = 14.0  # cycles a tile takes beyond its products: pointers, bias, branch
_L1_BYTES = 32 << 10  # of weights that stay in the first cache beside the pixels
_L2_BYTES_PER_CYCLE = 40.0


def pointwise_cycles(tile: Tile, m: int, k: int, n: int, lanes: int, fma: bool = True) -> float:
    """Estimated cycles of a pointwise layer: two multiply-adds and two vector loads per cycle."""
    sums = tile.rows * tile.vectors + (tile.rows // 2 if tile.pair else 0)
    loads = tile.rows + tile.vectors + tile.pair
    per_k = max(sums / 2.0 * (1 if fma else 2), loads / 2.0, _FMA_LATENCY)
    row_bytes = 4 * tile.packed_columns(lanes)
    if k * row_bytes > _L1_BYTES:  # every tile streams the panel from the second cache again
        per_k = max(per_k, row_bytes / _L2_BYTES_PER_CYCLE)
    one = k * per_k + sums + _TILE_OVERHEAD
    return -(-m // tile.rows) * -(-n // tile.columns(lanes)) * one


@cache
def pointwise_tile(m: int, k: int, n: int, isa: str) -> Tile:
    """The cheapest tile for m pixels, k input and n output channels."""
    chosen = isas.by_name(isa)
    usable = [t for t in tiles(isa) if t.rows <= m]
    return min(usable, key=lambda t: (pointwise_cycles(t, m, k, n, chosen.lanes, chosen.fma), t.rows))


@cache
def dense_tile(m: int, k: int, n: int, isa: str) -> Tile:
    """The cheapest dense convolution tile for m output pixels, k products each and n output channels a group."""
    chosen = isas.by_name(isa)
    usable = [t for t in dense.tiles(isa) if t.rows <= m]
    return min(usable, key=lambda t: (pointwise_cycles(t, m, k, n, chosen.lanes, chosen.fma), t.rows))


@cache
def depthwise_window(
    size: int, stride: int, left: int, right: int, width: int, out_width: int, isa: str
) -> Window | None:
    """The cheapest window for a map, or None where no row covers it."""
    usable = [
        w
        for w in windows(isa)
        if (w.size, w.stride, w.left, w.right) == (size, stride, left, right) and fits(w, width, out_width)
    ]
    return min(usable, key=lambda w: -(-out_width // w.width) * (w.width + 0.7), default=None)


@cache
def stem_tile(
    size: int, stride: int, left: int, right: int, width: int, out_width: int, out_channels: int, isa: str
) -> Stem | None:
    """The cheapest first-layer tile, or None where no row covers the map."""
    lanes = isas.by_name(isa).lanes

    def cost(s: Stem) -> float:
        panels = -(-out_channels // (s.vectors * lanes))
        per_tap = max(s.width * s.vectors * s.size / 2.0, (s.input_columns + s.size * s.vectors) / 2.0, _FMA_LATENCY)
        # A panel more reads the input once more and leaves gaps in the lines it writes.
        return -(-out_width // s.width) * panels * per_tap * (1 + 0.02 * panels)

    usable = []
    for s in stems(isa):
        window = Window(s.size, s.stride, s.width, s.left, s.right)
        if (s.size, s.stride, s.left, s.right) == (size, stride, left, right) and fits(window, width, out_width):
            usable.append(s)
    return min(usable, key=cost, default=None)
