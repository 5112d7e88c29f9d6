"""The dense convolution's micro-kernel: the pointwise tile, with the address of every pixel and tap from a table."""

from __future__ import annotations

from typing import Any

from sepcore.kernels.emit import I64, Emitter, Loop, i64, integer_intrinsic
from sepcore.kernels.isa import Isa
from sepcore.kernels.pointwise.rows import Tile
from sepcore.kernels.pointwise.tile import TileWriter


def dense_tile(tile: Tile, isa: Isa) -> Any:
    """An intrinsic that computes one tile of one group and weight panel.

    ``f(table, x_offset, zeros, taps, panel, k, out, out_stride, residual, residual_stride, step)``: pixel i of tap t
    is at ``table[t * rows + i] + x_offset``, or at ``zeros`` where the table says so; the panel holds the bias, then
    ``k`` rows of weights per tap.
    """
    name = f"conv_{isa.name}_{tile.rows}x{tile.vectors}"

    def body(b: Any, args: Any) -> None:
        e = Emitter(b, isa)
        table, x_offset, zeros, taps, panel, k, out, out_stride, residual, residual_stride, step_ = args
        w = TileWriter(e, tile)
        w.k, w.out_stride, w.residual_stride = k, out_stride, residual_stride
        w.bias, w.step = e.pointer(panel), e.pointer(step_)
        w.has_residual = b.icmp_unsigned("!=", residual, i64(0))
        row_bytes = tile.packed_columns(isa.lanes) * 4
        loop = Loop(b, taps, 1, w.start())
        entry = e.at(e.pointer(table), b.mul(loop.i, i64(8 * tile.rows)))
        rows = []
        for i in range(tile.rows):
            address = b.load(e.at(entry, 8 * i), align=8, typ=I64)
            inside = b.icmp_unsigned("!=", address, zeros)
            rows.append(e.pointer(b.add(address, b.select(inside, x_offset, i64(0)))))
        weights = e.at(e.at(w.bias, row_bytes), b.mul(b.mul(loop.i, k), i64(row_bytes)))
        sums = w.accumulate(list(loop.carried), rows, weights, None)
        loop.end(sums)
        w.finish(sums, e.pointer(out), e.pointer(residual))

    return integer_intrinsic(name, 11, body)
