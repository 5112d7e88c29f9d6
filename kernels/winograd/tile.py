"""The micro-kernel of blocks of 2x2 outputs: the register tile of the pointwise kernel, nine sums of products long."""

from __future__ import annotations

from typing import Any

from sepcore.kernels.emit import FLOAT_BYTES, Emitter, Loop, i64, integer_intrinsic
from sepcore.kernels.isa import Isa
from sepcore.kernels.pointwise.rows import Tile
from sepcore.kernels.winograd.kept import KeepingWriter
from sepcore.kernels.winograd.rows import sums_bytes


def winograd_tile(tile: Tile, isa: Isa) -> Any:
    """An intrinsic for as many neighbouring blocks as ``tile`` has rows, and one weight panel.

    ``f(a, block_bytes, panel, k, out, out_pixel, out_row, residual, residual_pixel, residual_row, scratch, step)``: at
    ``a`` the blocks' differences, ``block_bytes`` apart, 25 runs of ``k`` floats in each; the panel holds the bias and
    25 k rows of weights; ``out`` is the first block's first output, whose pixels and rows are ``out_pixel`` and
    ``out_row`` bytes apart. The rest as for the pointwise tile.
    """
    name = f"winograd_{isa.name}_{tile.rows}x{tile.vectors}"

    def body(b: Any, args: Any) -> None:
        _WinogradWriter(Emitter(b, isa), tile).blocks(args)

    return integer_intrinsic(name, 12, body)


class _WinogradWriter(KeepingWriter):
    def blocks(self, args: Any) -> None:
        """The four outputs of each block."""
        b, e = self.b, self.e
        a, self.a_stride, panel, k, out, out_pixel, out_row, residual, residual_pixel, residual_row, scratch, step_ = (
            args
        )
        self.bias = e.pointer(panel)
        self.weights = e.at(self.bias, self.tile.columns(e.lanes) * FLOAT_BYTES)
        self.step, self.run = e.pointer(step_), k
        self.has_residual = b.icmp_unsigned("!=", residual, i64(0))
        self.kept, self.kept_bytes = e.pointer(scratch), sums_bytes(self.tile, e.lanes) // 5
        self.nine_sums(e.pointer(a))
        self.out_stride, self.residual_stride = b.shl(out_pixel, i64(1)), b.shl(residual_pixel, i64(1))
        out, residual = e.pointer(out), e.pointer(residual)
        output = Loop(b, i64(4))
        lower, right = b.lshr(output.i, i64(1)), b.and_(output.i, i64(1))
        self.finish(
            self.recalled(output.i),
            e.at(out, b.add(b.mul(lower, out_row), b.mul(right, out_pixel))),
            e.at(residual, b.add(b.mul(lower, residual_row), b.mul(right, residual_pixel))),
        )
        output.end()

    def nine_sums(self, a: Any) -> None:
        """The four outputs, to the scratch memory."""
        e = self.e
        done = 0

        def plus(start: list[Any], runs: int) -> list[Any]:
            nonlocal done
            first = e.at(a, e.times(done * FLOAT_BYTES, self.run))
            rows = [e.at(first, e.times(i, self.a_stride)) for i in range(self.tile.rows)]
            panel = e.at(self.weights, e.times(done * FLOAT_BYTES * self.tile.columns(e.lanes), self.run))
            self.k = e.times(runs, self.run)
            done += runs
            return self.accumulate(start, rows, panel, None)

        y00, y01, y10, y11, aside = range(5)
        cc = plus(self.start(), 1)
        self.keep(cc, aside)
        self.keep(plus(cc, 2), y10)  # C of the left column, until it is y10
        self.keep(plus(self.recalled(aside), 2), y11)  # and of the right one
        for left, right in ((y00, y01), (y10, y11)):
            both = plus(self.zeros(), 2)
            self.keep(both, aside)
            self.keep(plus(self.with_kept(both, y10), 4), left)
            self.keep(plus(self.with_kept(self.recalled(aside), y11), 4), right)
