"""Plans a pointwise layer by crossed products."""

from __future__ import annotations

from sepcore.ir.graph import Array, Node
from sepcore.kernels.crossed import pack
from sepcore.kernels.crossed import rows as c
from sepcore.kernels.pointwise import rows as r
from sepcore.kernels.pointwise.rows import Tile
from sepcore.plan import select
from sepcore.plan.lowering import Lowering
from sepcore.plan.select import Choice
from sepcore.plan.tensors import FLOAT, Map

_CHUNK_BYTES, _CHUNK_OF_MANY_WEIGHTS = 32 << 10, 256 << 10
_MANY_WEIGHTS = 256 << 10
"""Pixels are prepared a few tiles at a time, so that they are in the first caches when they are multiplied; more of
them where the weights are so many that they come from further away, once for each few tiles."""


def crossed(
    p: Lowering, node: Node, choice: Choice[Tile], x: Map, weight: Array, bias: Array | None, residual: str
) -> None:
    """Every pixel's channels times ``weight`` (n, k), as ``select.crossed_tiles`` has it for such a layer."""
    n, k = weight.shape
    lanes = p.isa.lanes
    out = p.new_map(node.output)
    extra = p.as_map(residual) if residual else None
    tile = p.pick(choice)
    (row_blocks, panel_blocks), _ = select.crossed_blocks(tile, x.pixels, k, n, p.isa.name, p.workers)
    room = _CHUNK_OF_MANY_WEIGHTS if FLOAT * n * k > _MANY_WEIGHTS else _CHUNK_BYTES
    chunk = max(1, min(room // c.tile_bytes(tile.rows, c.third(k), lanes), -(-x.pixels // tile.rows)))
    p.scratch(c.scratch_bytes(tile.rows, k, lanes, chunk))
    p.step(
        c.row(tile, p.isa.name),
        row_blocks * panel_blocks,
        {
            r.M: x.pixels,
            r.K: k,
            r.X_STRIDE: x.pixel_bytes,
            r.OUT_STRIDE: out.pixel_bytes,
            r.EXTRA_STRIDE: extra.pixel_bytes if extra else 0,
            r.PANELS: -(-n // lanes),
            r.ROW_BLOCKS: row_blocks,
            r.PANEL_BLOCKS: panel_blocks,
            r.PREFETCH_SHIFT: r.NO_PREFETCH,
            c.CHUNK: chunk,
            **p.activation(node),
        },
        x=x,
        out=out,
        extra=extra,
        weights=p.weight((node.name, "crossed", lanes), pack.pack, weight, bias, lanes),
        macs=x.pixels * n * k,
        more={c.FACTORS: (x.factors.buffer, x.factors.offset)} if x.factors else None,
    )
