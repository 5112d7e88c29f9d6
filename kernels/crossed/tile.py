"""The crossed micro-kernel: a register tile of pixels x one vector of output channels, a pair and a product a turn."""

from __future__ import annotations

from typing import Any

from sepcore.kernels.crossed.balance import BIAS, CROSSED, HEAD_ROWS, SCALE
from sepcore.kernels.crossed.rows import HEAD_BYTES
from sepcore.kernels.emit import FLOAT_BYTES, Emitter, Loop, i64, integer_intrinsic
from sepcore.kernels.isa import Isa
from sepcore.kernels.pointwise.rows import Tile
from sepcore.kernels.pointwise.tile import TileWriter


def crossed_tile(tile: Tile, isa: Isa) -> Any:
    """An intrinsic that runs ``tile`` over prepared pixels, for one panel of weights.

    ``f(pixels, tile_bytes, tiles, first, last, panel, triples, out, out_stride, residual, residual_stride, step,
    prefetch, prefetch_shift)``: ``tiles`` of prepared pixels, ``tile_bytes`` apart, whose rows are pixels from
    ``first`` on of ``out`` and ``residual``; no tile begins behind pixel ``last``. Memory from ``prefetch`` on is asked
    for on the way, one 64-byte line every ``2**prefetch_shift`` triples. The rest as for the pointwise tile.
    """

    def body(b: Any, args: Any) -> None:
        _CrossedWriter(Emitter(b, isa), tile).crossed(args)

    return integer_intrinsic(f"crossed_{isa.name}_{tile.rows}", 14, body)


class _CrossedWriter(TileWriter):
    def crossed(self, args: Any) -> None:
        """The loop over tiles."""
        b, e, rows = self.b, self.e, self.tile.rows
        (
            pixels,
            tile_bytes,
            tiles,
            first,
            last,
            panel,
            self.triples,
            out,
            self.out_stride,
            residual,
            self.residual_stride,
            step_,
            ahead,
            self.ahead_shift,
        ) = args
        self.panel_at, self.step = e.pointer(panel), e.pointer(step_)
        self.has_residual = b.icmp_unsigned("!=", residual, i64(0))
        ahead_bytes = b.shl(b.lshr(self.triples, self.ahead_shift), i64(6))
        loop = Loop(b, tiles)
        row = b.add(first, b.mul(loop.i, i64(rows)))
        row = b.select(b.icmp_signed("<", row, last), row, last)
        self.head = e.at(e.pointer(pixels), b.mul(loop.i, tile_bytes))
        sums = self.accumulated(e.at(e.pointer(ahead), b.mul(loop.i, ahead_bytes)))
        self.finish(
            self.scaled(sums),
            e.at(e.pointer(out), b.mul(row, self.out_stride)),
            e.at(e.pointer(residual), b.mul(row, self.residual_stride)),
        )
        loop.end()

    def accumulated(self, ahead: Any) -> list[Any]:
        """The scaled sums of products of a tile."""
        b, e, rows = self.b, self.e, self.tile.rows
        crossed = e.load(e.at(self.panel_at, CROSSED * e.bytes))
        start = [b.fadd(e.broadcast(e.at(self.head, FLOAT_BYTES * i)), crossed) for i in range(rows)]
        pixels, weights = e.at(self.head, HEAD_BYTES), e.at(self.panel_at, HEAD_ROWS * e.bytes)
        loop = Loop(b, self.triples, 2, start)
        sums = list(loop.carried)
        half = e.lanes // 2
        block, lane = b.udiv(loop.i, i64(half)), b.urem(loop.i, i64(half))
        at = e.at(pixels, b.mul(b.add(b.mul(block, i64(3 * rows * half)), lane), i64(FLOAT_BYTES)))
        panel = e.at(weights, b.mul(loop.i, i64(3 * e.bytes)))
        for odd in (0, 1):
            line = b.shl(b.lshr(b.add(loop.i, i64(odd)), self.ahead_shift), i64(6))
            e.prefetch(e.at(ahead, line))
            w = [e.load(e.at(panel, (3 * odd + j) * e.bytes)) for j in range(3)]
            for i in range(rows):
                x = [e.at(at, ((3 * i + j) * half + odd) * FLOAT_BYTES) for j in range(3)]
                sums[i] = e.fma(e.broadcast(x[2]), w[2], sums[i])
                paired = b.fadd(e.broadcast(x[0]), w[1])
                other = b.fadd(e.broadcast(x[1]), w[0])
                sums[i] = e.fma(b.fneg(paired) if odd else paired, other, sums[i])
        loop.end(sums)
        return sums

    def scaled(self, sums: list[Any]) -> list[Any]:
        """Sums as they are without scales, and the bias."""
        e, rows = self.e, self.tile.rows
        scale, bias = (e.load(e.at(self.panel_at, j * e.bytes)) for j in (SCALE, BIAS))
        inverses = [e.broadcast(e.at(self.head, e.bytes + FLOAT_BYTES * i)) for i in range(rows)]
        return [e.fma(self.b.fmul(x, scale), inverse, bias) for x, inverse in zip(sums, inverses)]
