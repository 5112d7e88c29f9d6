"""Plans a pointwise layer by Strassen's algorithm: the sums of its map's quarters, then the seven products."""

from __future__ import annotations

from sepcore.ir.graph import Array, Node
from sepcore.kernels.pointwise import rows as r
from sepcore.kernels.pointwise.rows import Tile
from sepcore.kernels.strassen import pack
from sepcore.kernels.strassen import rows as s
from sepcore.plan.drafts import Buffer
from sepcore.plan.lowering import Lowering
from sepcore.plan.select import Choice
from sepcore.plan.split import row_and_panel_blocks
from sepcore.plan.tensors import Map


def strassen(
    p: Lowering, node: Node, choice: Choice[Tile], x: Map, weight: Array, bias: Array | None, residual: str
) -> None:
    """Every pixel's channels times ``weight`` (n, k), as ``select.halved_tiles`` has it for such a layer."""
    n, k = weight.shape
    pairs, lanes = x.height // 2, p.isa.lanes
    shape = {r.M: x.width, s.PAIRS: pairs, r.K: k // 2, r.X_STRIDE: x.pixel_bytes}
    sums, sum_stride = _sums(p, x, shape)
    out = p.new_map(node.output)
    extra = p.as_map(residual) if residual else None
    tile = p.pick(choice)
    panels = n // 2 // tile.columns(lanes)
    p.scratch(s.scratch_bytes(tile, lanes))
    row_blocks, panel_blocks = _blocks(pairs * x.width // tile.rows, panels, p.workers)
    key = (node.name, "strassen", tile.vectors, lanes)
    p.step(
        s.product_row(tile, p.isa.name),
        row_blocks * panel_blocks,
        {
            **shape,
            s.SUM_STRIDE: sum_stride,
            r.OUT_STRIDE: out.pixel_bytes,
            r.EXTRA_STRIDE: extra.pixel_bytes if extra else 0,
            r.PANELS: panels,
            r.ROW_BLOCKS: row_blocks,
            r.PANEL_BLOCKS: panel_blocks,
            r.PREFETCH_SHIFT: r.NO_PREFETCH,
            **p.activation(node),
        },
        x=x,
        out=out,
        extra=extra,
        weights=p.weight(key, pack.pack, weight, bias, tile, lanes),
        macs=x.pixels * n * k,
        more={s.SUMS: (sums, 0)},
    )


def _blocks(tiles: int, panels: int, workers: int) -> tuple[int, int]:
    """Into how many blocks to divide the tiles of a panel, and into how many the panels.

    A thread best has pixels of its own, whose sums it has written, and reads every panel once; there are more blocks
    than threads, for those that are held up.
    """
    if workers == 1:
        return 1, 1
    if tiles % workers == 0:
        return workers, min(panels, 3)
    return row_and_panel_blocks(tiles, 1, panels, workers)


def _sums(p: Lowering, x: Map, shape: dict[int, int]) -> tuple[Buffer, int]:
    """The step that adds up quarters of the map; where the sums are, and the bytes from a pixel to the next."""
    pixels = x.pixels // 2
    stride = p.pixel_bytes(p.padded(x.channels // 2), x.width)
    sums = p.memory(4 * pixels * stride)
    blocks = p.split(pixels, 4)
    p.step(s.sums_row(p.isa.name), blocks, {**shape, r.OUT_STRIDE: stride, r.ROW_BLOCKS: blocks}, x=x, out=(sums, 0))
    return sums, stride
