"""Plans a pointwise layer by Strassen's algorithm: the sums of its map's quarters, then the seven products."""

from __future__ import annotations

from sepcore.ir.graph import Array, Node
from sepcore.kernels.pointwise import rows as r
from sepcore.kernels.pointwise.rows import Tile
from sepcore.kernels.strassen import pack
from sepcore.kernels.strassen import rows as s
from sepcore.plan import select
from sepcore.plan.lowering import Lowering
from sepcore.plan.select import Choice
from sepcore.plan.tensors import Map


def strassen(
    p: Lowering, node: Node, choice: Choice[Tile], x: Map, weight: Array, bias: Array | None, residual: str
) -> None:
    """Every pixel's channels times ``weight`` (n, k), as ``select.halved_tiles`` has it for such a layer."""
    n, k = weight.shape
    pairs, lanes = -(-x.pixels // 2), p.isa.lanes
    out = p.new_map(node.output)
    extra = p.as_map(residual) if residual else None
    tile = p.pick(choice)
    panels = n // 2 // tile.columns(lanes)
    tiles = pairs // tile.rows
    (row_blocks, panel_blocks), _ = select.halved_blocks(tile, x.pixels, k, n, p.isa.name, p.workers)
    sum_stride = p.pixel_bytes(p.padded(k // 2), pairs)
    p.scratch(s.scratch_bytes(tile, lanes, -(-tiles // row_blocks) * tile.rows, sum_stride))
    key = (node.name, "strassen", tile.vectors, lanes)
    p.step(
        s.row(tile, p.isa.name),
        row_blocks * panel_blocks,
        {
            r.M: pairs,
            s.PIXELS: x.pixels,
            r.K: k // 2,
            r.X_STRIDE: x.pixel_bytes,
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
    )


def pairs_up(p: Lowering, node: Node, x: Map, residual: str) -> bool:
    """Whether the layer's maps have the pixel behind the last that an odd number of them is paired with."""
    maps = [x] if not residual else [x, p.as_map(residual)]
    behind = (one.offset + (one.pixels + 1) * one.pixel_bytes <= one.buffer.size for one in maps)
    return x.pixels % 2 == 0 or (node.output not in p.places.homes and all(behind))
