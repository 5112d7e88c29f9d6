"""Which kernel rows can run a layer of a shape, cheapest first by estimate; knows kernels and numbers, no graphs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from types import MappingProxyType
from typing import Generic, TypeVar

from sepcore.kernels import isa as isas
from sepcore.kernels.conv import dense, stem
from sepcore.kernels.conv.stem import Stem
from sepcore.kernels.crossed import rows as crossed
from sepcore.kernels.depthwise import rows as depthwise
from sepcore.kernels.depthwise.rows import Window, fits
from sepcore.kernels.pointwise import rows as pointwise
from sepcore.kernels.pointwise.rows import Tile
from sepcore.kernels.winograd import rows as winograd
from sepcore.plan.split import pixel_and_panel_blocks

_L1_BYTES = 32 << 10  # of weights that stay in the first cache beside the pixels
_L2_BYTES_PER_CYCLE = 38.0
_PRODUCT_CYCLES = 60.0  # to end a product of a tile, to keep its sums in scratch memory and to begin the next one
_DIFFERENCES_CYCLES = 80.0  # to read and write a vector of each difference of a block
_CROSSED_CYCLES = 30.0, 4.0  # to end a tile of crossed products and begin the next, and for each row of it
_PIXEL_CYCLES = 12.0  # to scale a pixel for crossed products, and
_TRIPLES_CYCLES = 16.0  # for each register of triples of it
_ACROSS_BYTES_PER_CYCLE = 2.5  # that come out of another core's cache
_SCALED_WEIGHT_CYCLES = 1000.0, 1.0  # to have a step that scales weights, and for each of them
_WORTH_BLOCKS = 0.96  # of the time of a plain convolution, what one by blocks may take
_WORTH_CROSSING = 0.96  # of the time of plain products, what crossed ones may take
_WORTH_SHARING = 1.0  # the same where two threads share the layer
_WORTH_A_STEP = 0.96  # of the time of one step, what two may take: threads wait for each other once more

Parameters = TypeVar("Parameters")

NOTHING_TUNED: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Choice(Generic[Parameters]):
    """A decision of the planner. Whichever row is taken, results are the same bits: only time differs.

    Attributes
    ----------
    layer : operator and shape: ``pointwise 49x960x160``.
    rows : name and parameters of every row that covers the shape, cheapest first by estimate; may be empty.
    threads : that share the layer: another row may be the fastest then.
    """

    layer: str
    rows: tuple[tuple[str, Parameters], ...]
    threads: int = 1

    @property
    def key(self) -> str:
        """How files of tuned rows name the choice."""
        return self.layer if self.threads == 1 else f"{self.layer} by {self.threads}"

    def by(self, threads: int) -> Choice[Parameters]:
        """The same choice where ``threads`` share the layer."""
        return self if threads == 1 else replace(self, threads=threads)

    def pick(self, tuned: Mapping[str, str]) -> Parameters:
        """The row that ``tuned`` names for the key, or the cheapest where it names none of the rows."""
        return dict(self.rows).get(tuned.get(self.key, ""), self.rows[0][1])


def _by_cost(
    layer: str, usable: Iterable[Parameters], name: Callable[[Parameters], str], cost: Callable[[Parameters], object]
) -> Choice[Parameters]:
    ordered = sorted(usable, key=cost)  # type: ignore[arg-type]
    return Choice(layer, tuple((name(one), one) for one in ordered))


def pointwise_cycles(tile: Tile, m: int, k: int, n: int, lanes: int, fma: bool = True) -> float:
    """Estimated cycles of a pointwise layer, from costs fitted to measured tiles (K from 16 to 960)."""
    per_k, stores = _tile_cycles(tile, lanes, fma)
    row_bytes = 4 * tile.packed_columns(lanes)
    if k * row_bytes > _L1_BYTES:
        per_k = _streaming(per_k, row_bytes)
    return -(-m // tile.rows) * -(-n // tile.columns(lanes)) * (k * per_k + stores)


def crossed_cycles(tile: Tile, m: int, k: int, n: int, lanes: int) -> float:
    """The same of one by crossed products."""
    product, pixels = _crossed_costs(tile, k, lanes)
    return -(-m // tile.rows) * (-(-n // lanes) * product + pixels)


def _crossed_costs(tile: Tile, k: int, lanes: int) -> tuple[float, float]:
    """Cycles of a tile's products with a panel, and to write its pixels to scratch memory."""
    triples = crossed.third(k)
    panel_bytes = 12 * lanes * triples
    # Two multiply-adds a row; or three broadcasts, two of which are read at once, beside the weights of a low tile.
    per_triple = max(2.0 * tile.rows, 1.5 * tile.rows + 4.2) + (2.0 if panel_bytes > _L1_BYTES // 2 else 0.0)
    pixel = _PIXEL_CYCLES + _TRIPLES_CYCLES * -(-triples // lanes)
    once, per_row = _CROSSED_CYCLES
    return triples * per_triple + once + per_row * tile.rows, tile.rows * pixel


def crossed_blocks(tile: Tile, m: int, k: int, n: int, isa: str, threads: int) -> tuple[tuple[int, int], float]:
    """Into how many blocks ``threads`` divide the pixels of such a layer, and into how many its panels.

    And how much longer the thread that ends last takes than if all had as much to do.
    """
    if threads == 1:
        return (1, 1), 1.0
    lanes = isas.by_name(isa).lanes
    tiles, panels = -(-m // tile.rows), -(-n // lanes)
    product, pixels = _crossed_costs(tile, k, lanes)
    across = 4 * m * k / _ACROSS_BYTES_PER_CYCLE
    # No block is the last tile alone, where that is moved up over pixels of the one before.
    most = tiles if m % tile.rows == 0 else max(1, tiles - 1)
    return pixel_and_panel_blocks(tiles, panels, threads, most, pixels / product, across / product)


def winograd_cycles(tile: Tile, m: int, k: int, n: int, lanes: int, fma: bool = True) -> float:
    """The same of a dense 3x3 convolution with a stride of two by blocks of 2x2 outputs."""
    per_k, kept = _kept_cycles(tile, lanes, fma)
    tiles = m // 4 // tile.rows * -(-n // tile.columns(lanes))
    products = tiles * (winograd.PRODUCTS * k * per_k + winograd.SUMS * kept)
    return products + _DIFFERENCES_CYCLES * m // 4 * k / lanes


def _kept_cycles(tile: Tile, lanes: int, fma: bool) -> tuple[float, float]:
    """Cycles of a tile whose sums are kept between products, for each k, and for each product.

    The next product's panel comes before this one again, so each is read from the second cache.
    """
    per_k = _streaming(_tile_cycles(tile, lanes, fma)[0], 4 * tile.columns(lanes))
    return per_k, _PRODUCT_CYCLES + 0.3 * tile.rows * tile.vectors


def _streaming(per_k: float, row_bytes: int) -> float:
    """Cycles of a tile for each k where it reads its panel from the second cache."""
    return max(per_k + row_bytes / 500.0, row_bytes / _L2_BYTES_PER_CYCLE)


def _tile_cycles(tile: Tile, lanes: int, fma: bool) -> tuple[float, float]:
    """Cycles of a tile for each k, and once."""
    return _two_pass_cycles(tile) if lanes == 16 and isas.two_passes() else _one_pass_cycles(tile, fma)


def _one_pass_cycles(tile: Tile, fma: bool) -> tuple[float, float]:
    """Cycles of a tile for each k, and once: two multiply-adds and two vector loads per cycle (Zen 5).

    Few accumulators do not hide the latency of a multiply-add, and with more than 16 of them the next tile's products
    no longer overlap the stores of this one.
    """
    sums = tile.rows * tile.vectors + (tile.rows // 2 if tile.pair else 0)
    loads = tile.rows + tile.vectors + tile.pair
    per_k = max(sums / 2.0 * (1 if fma else 2), sums / 4.0 + 2.9, loads * 0.53)
    return per_k, 0.9 * sums + 2.5 * max(0, sums - 16)


def _two_pass_cycles(tile: Tile) -> tuple[float, float]:
    """The same where a multiply-add, load or store of 512 bits takes as long as two of 256 bits (Zen 4).

    What joins the halves of a pair takes a multiply-add's time where there is little else to do.
    """
    sums = tile.rows * tile.vectors / (2 if tile.narrow else 1) + (tile.rows // 2 if tile.pair else 0)
    joins = tile.rows / 2 * {1: 0.75, 2: 0.2}[tile.vectors] if tile.pair else 0.0
    again = tile.rows / 32.0  # the pixels are read once more for each panel
    if tile.narrow:  # where the products are few, the next tile's overlap the stores of a low one only
        return max(1.03 * sums, 6.0) + again, 1.0 * sums + max(0, tile.rows - 4)
    if tile.pair:
        return max(sums + joins, 7.0) + again, 1.5 * sums + 4.5 * max(0.0, sums - 18)
    return max(sums, 7.0) + again, {1: 1.2, 2: 2.8}.get(tile.vectors, 2.2) * sums


@cache
def pointwise_tiles(m: int, k: int, n: int, isa: str) -> Choice[Tile]:
    """Tiles for m pixels, k input and n output channels."""
    chosen = isas.by_name(isa)
    return _by_cost(
        f"pointwise {m}x{k}x{n}",
        (t for t in pointwise.tiles(isa) if t.rows <= m),
        lambda t: pointwise.row(t, isa).name,
        lambda t: (pointwise_cycles(t, m, k, n, chosen.lanes, chosen.fma), t.rows),
    )


@cache
def column_parts(m: int, k: int, n: int, isa: str) -> tuple[int, ...]:
    """Output channels of the steps that a pointwise layer is best divided into: all, or two parts with other tiles.

    112 channels fill no tile evenly that is low enough to be read from the second cache, but 64 and 48 do.
    """
    lanes = isas.by_name(isa).lanes
    widths = {t.columns(lanes) for t in pointwise.tiles(isa)}
    firsts = sorted({w * i for w in widths if w % lanes == 0 for i in range(1, -(-n // w))}, reverse=True)
    costs = [(least_cycles(m, k, first, isa) + least_cycles(m, k, n - first, isa), first) for first in firsts]
    cost, first = min(costs, key=lambda pair: pair[0], default=(0.0, n))
    return (first, n - first) if first < n and cost < _WORTH_A_STEP * least_cycles(m, k, n, isa) else (n,)


def least_cycles(m: int, k: int, n: int, isa: str) -> float:
    """Those of a layer's best tile."""
    chosen = isas.by_name(isa)
    return min(pointwise_cycles(t, m, k, n, chosen.lanes, chosen.fma) for t in pointwise.tiles(isa) if t.rows <= m)


@cache
def crossed_tiles(m: int, k: int, n: int, isa: str, threads: int = 1, *, factors: bool = False) -> Choice[Tile] | None:
    """Tiles for a pointwise layer of m pixels by crossed products; None where that takes longer, or cannot be.

    ``factors`` : whether the channels of its pixels have yet to be scaled, which plain products do with the weights.
    Results differ from a plain product's in their rounding. So whether it is taken depends on the layer alone, not on
    ``threads``, images, what was tuned or whether layers are in a chain: on what it takes one thread, and two.
    """
    chosen = isas.by_name(isa)
    usable = [t for t in crossed.tiles(isa) if t.rows <= m]
    if k < chosen.lanes or not usable or not isas.two_passes():
        return None

    def shared(tile: Tile, by: int) -> float:
        return crossed_cycles(tile, m, k, n, chosen.lanes) * crossed_blocks(tile, m, k, n, isa, by)[1]

    once, each = _SCALED_WEIGHT_CYCLES
    plain = least_cycles(m, k, n, isa) + factors * (once + each * k * n)
    if min(shared(t, 1) for t in usable) > _WORTH_CROSSING * plain:
        return None
    if min(shared(t, 2) for t in usable) > _WORTH_SHARING * plain:
        return None
    return _by_cost(
        f"pointwise crossed {m}x{k}x{n}",
        usable,
        lambda t: crossed.row(t, isa).name,
        lambda t: (shared(t, threads), t.rows),
    )


@cache
def gathered_tiles(m: int, k: int, n: int, isa: str) -> Choice[Tile]:
    """Tiles for a pointwise layer whose input channels are not next to each other."""
    chosen = isas.by_name(isa)
    return _by_cost(
        f"pointwise gathered {m}x{k}x{n}",
        (t for t in pointwise.gathered_tiles(isa) if t.rows <= m),
        lambda t: pointwise.row(t, isa, gathered=True).name,
        lambda t: (pointwise_cycles(t, m, k, n, chosen.lanes, chosen.fma), t.rows),
    )


@cache
def dense_tiles(m: int, k: int, n: int, isa: str) -> Choice[Tile]:
    """Dense convolution tiles for m output pixels, k products each and n output channels a group."""
    chosen = isas.by_name(isa)
    return _by_cost(
        f"conv {m}x{k}x{n}",
        (t for t in dense.tiles(isa) if t.rows <= m),
        lambda t: dense.row(t, isa).name,
        lambda t: (pointwise_cycles(t, m, k, n, chosen.lanes, chosen.fma), t.rows),
    )


@cache
def winograd_tiles(height: int, width: int, k: int, n: int, isa: str) -> Choice[Tile] | None:
    """Tiles for a dense 3x3 convolution with a stride of two, by blocks of 2x2 of its height x width outputs.

    None where that takes longer, or cannot be. As for ``crossed_tiles``, this depends on the layer alone.
    """
    chosen = isas.by_name(isa)
    usable = [t for t in winograd.tiles(isa) if width % (2 * t.rows) == 0]
    if height % 2 or k % chosen.lanes or not usable or not isas.two_passes():
        return None

    def cycles(tile: Tile) -> float:
        return winograd_cycles(tile, height * width, k, n, chosen.lanes, chosen.fma)

    plain = dense_tiles(height * width, 9 * k, n, isa).rows[0][1]
    plain_cycles = pointwise_cycles(plain, height * width, 9 * k, n, chosen.lanes, chosen.fma)
    if min(map(cycles, usable)) > _WORTH_BLOCKS * plain_cycles:
        return None
    return _by_cost(
        f"conv by blocks {height}x{width}x{k}x{n}",
        usable,
        lambda t: winograd.row(t, isa).name,
        lambda t: (cycles(t), t.rows),
    )


@cache
def depthwise_windows(
    size: int, stride: int, sides: tuple[int, int], in_width: int, out_width: int, channels: int, isa: str
) -> Choice[Window]:
    """Windows for a map: ``sides`` are the columns outside it at its first and last output."""
    # Long rows come out of the second cache, and many outputs in two passes each outlast what is loaded ahead (Zen 4):
    # four columns are up to 16 % faster than seven, with a stride of two three are up to 12 % faster than four. With
    # one vector of channels only, what a tile takes beside it counts more.
    one_vector = channels <= isas.by_name(isa).lanes
    if (size, stride) == (3, 2):
        most = 4 if one_vector else 3
    else:
        most = 7 if one_vector else 4
    widest = most if in_width >= 56 and isa == "avx512" and isas.two_passes() else 7
    return _by_cost(
        f"depthwise k{size}s{stride} {in_width}to{out_width}x{channels}",
        (
            w
            for w in depthwise.windows(isa)
            if (w.size, w.stride, w.left, w.right) == (size, stride, *sides) and fits(w, in_width, out_width)
        ),
        lambda w: depthwise.row(w, isa).name,
        lambda w: -(-out_width // w.width) * (1.125 * w.width + 0.5) * (1.25 if w.width > widest else 1.0),
    )


@cache
def stem_tiles(
    size: int, stride: int, sides: tuple[int, int], in_width: int, out_width: int, out_channels: int, isa: str
) -> Choice[Stem]:
    """First-layer tiles for a map: ``sides`` are the columns outside it at its first and last output."""
    lanes = isas.by_name(isa).lanes

    def cost(s: Stem) -> float:
        panels = -(-out_channels // (s.vectors * lanes))
        per_tap = max(s.width * s.vectors * s.size / 2.0, (s.input_columns + s.size * s.vectors) / 2.0, 4.0)
        # A panel more reads the input once more and leaves gaps in the lines it writes.
        return -(-out_width // s.width) * panels * per_tap * (1 + 0.02 * panels)

    def covers(s: Stem) -> bool:
        window = Window(s.size, s.stride, s.width, s.left, s.right)
        return (s.size, s.stride, s.left, s.right) == (size, stride, *sides) and fits(window, in_width, out_width)

    return _by_cost(
        f"stem k{size}s{stride} {in_width}to{out_width}x{out_channels}",
        (s for s in stem.stems(isa) if covers(s)),
        lambda s: stem.row(s, isa).name,
        cost,
    )
