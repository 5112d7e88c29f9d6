"""The Strassen micro-kernel: the register tile of the pointwise kernel, seven products long and four tiles wide."""

from __future__ import annotations

from typing import Any

from sepcore.kernels.emit import FLOAT_BYTES, Emitter, Loop, i64, integer_intrinsic
from sepcore.kernels.isa import Isa
from sepcore.kernels.pointwise.kept import KeepingWriter
from sepcore.kernels.pointwise.rows import Tile
from sepcore.kernels.strassen.rows import kept_bytes


def strassen_tile(tile: Tile, isa: Isa) -> Any:
    """An intrinsic for ``tile`` of one weight panel, in both halves of pixels and channels.

    ``f(a, a_stride, a_last, sums, sum_stride, sum_bytes, panel, k, out, out_stride, out_lower, out_right, residual,
    residual_stride, residual_lower, scratch, step, prefetch, prefetch_shift)``: at ``a`` the pixels of the first
    quarter, ``a_last`` bytes behind it those of the last; at ``sums`` those of S1, each sum ``sum_bytes`` long; the
    panel as ``pack`` lays it out, k that of a half; the halves of ``out`` are ``out_lower`` and ``out_right`` bytes
    apart. The rest as for the pointwise tile.
    """
    name = f"strassen_{isa.name}_{tile.rows}x{tile.vectors}"

    def body(b: Any, args: Any) -> None:
        _StrassenWriter(Emitter(b, isa), tile).quarters(args)

    return integer_intrinsic(name, 19, body)


class _StrassenWriter(KeepingWriter):
    def quarters(self, args: Any) -> None:
        """The four tiles of C."""
        b, e = self.b, self.e
        (
            a,
            self.a_stride,
            a_last,
            sums,
            self.sum_stride,
            self.sum_bytes,
            panel,
            self.k,
            out,
            self.out_stride,
            out_lower,
            out_right,
            residual,
            self.residual_stride,
            residual_lower,
            scratch,
            step_,
            ahead,
            shift,
        ) = args
        panel = e.pointer(panel)
        row_bytes = self.tile.columns(e.lanes) * FLOAT_BYTES
        self.weights = e.at(panel, 2 * row_bytes)
        self.product_bytes = b.mul(self.k, i64(row_bytes))
        self.step = e.pointer(step_)
        self.ahead_shift = shift
        self.ahead_bytes = b.shl(b.lshr(self.k, shift), i64(6))
        self.has_residual = b.icmp_unsigned("!=", residual, i64(0))
        self.kept, self.kept_bytes = e.pointer(scratch), kept_bytes(self.tile, e.lanes) // 4
        self.seven_products(e.pointer(a), a_last, e.pointer(sums), e.pointer(ahead))
        out, residual = e.pointer(out), e.pointer(residual)
        quarter = Loop(b, i64(4))
        lower, right = b.lshr(quarter.i, i64(1)), b.and_(quarter.i, i64(1))
        self.bias = e.at(panel, b.mul(right, i64(row_bytes)))
        here = b.mul(right, out_right)
        self.finish(
            self.with_kept(self.start(), quarter.i),
            e.at(out, b.add(here, b.mul(lower, out_lower))),
            e.at(residual, b.add(here, b.mul(lower, residual_lower))),
        )
        quarter.end()

    def seven_products(self, a11: Any, a_last: Any, s1: Any, ahead: Any) -> None:
        """The quarters of C, less the bias, to the scratch memory."""
        b, e = self.b, self.e
        a12, a22 = e.at(a11, b.shl(self.k, i64(2))), e.at(a11, a_last)
        s2, s3, s4 = (e.at(s1, e.times(i, self.sum_bytes)) for i in (1, 2, 3))
        done = 0

        def plus(start: list[Any], x: Any, stride: Any) -> list[Any]:
            nonlocal done
            rows = [e.at(x, e.times(i, stride)) for i in range(self.tile.rows)]
            panel = e.at(self.weights, e.times(done, self.product_bytes))
            asked = e.at(ahead, e.times(done, self.ahead_bytes))
            done += 1
            return self.accumulate(start, rows, panel, asked)

        c11, c12, c21, c22 = range(4)
        p1 = plus(self.zeros(), a11, self.a_stride)
        self.keep(p1, c12)
        self.keep(plus(p1, a12, self.a_stride), c11)
        u2 = plus(self.recalled(c12), s2, self.sum_stride)
        self.keep(u2, c12)
        u3 = plus(u2, s3, self.sum_stride)
        self.keep(u3, c22)
        self.keep(plus(u3, a22, self.a_stride), c21)
        p5 = plus(self.zeros(), s1, self.sum_stride)
        self.keep(self.with_kept(p5, c22), c22)
        self.keep(plus(self.with_kept(p5, c12), s4, self.sum_stride), c12)
