"""The first layer's micro-kernel: pixels x output channels in registers, one input row of one channel at a time."""

from __future__ import annotations

from typing import Any

from sepcore.kernels.activation.store import activate_in_place, store_activated
from sepcore.kernels.conv.stem import Stem
from sepcore.kernels.emit import FLOAT_BYTES, I64, Emitter, Loop, i64, integer_intrinsic
from sepcore.kernels.isa import Isa


def stem_tile(stem: Stem, left: int, right: int, isa: Isa) -> Any:
    """An intrinsic that computes one tile of outputs.

    ``f(row_pointers, x_offset, taps, panel, out, out_pixel, step)``: input row t of ``taps`` starts at
    ``row_pointers[t] + x_offset``; its first ``left`` and last ``right`` columns are outside the map and not read.
    The panel holds the bias, then ``size`` weight vectors per tap.
    """
    s = stem
    name = f"stem_{isa.name}_k{s.size}s{s.stride}_{s.width}x{s.vectors}_l{left}r{right}"

    def body(b: Any, args: Any) -> None:
        e = Emitter(b, isa)
        pointers, x_offset, taps, panel, out, out_pixel, step_ = args
        bias = e.pointer(panel)
        row_bytes = s.vectors * e.bytes
        start = [e.load(e.at(bias, v * e.bytes)) for v in range(s.vectors)] * s.width
        loop = Loop(b, taps, 1, start)
        sums = list(loop.carried)
        table = e.at(e.pointer(pointers), b.shl(loop.i, i64(3)))
        row = e.pointer(b.add(b.load(table, align=8, typ=I64), x_offset))
        weights = e.at(e.at(bias, row_bytes), b.mul(loop.i, i64(s.size * row_bytes)))
        w = [[e.load(e.at(weights, j * row_bytes + v * e.bytes)) for v in range(s.vectors)] for j in range(s.size)]
        for column in range(left, s.input_columns - right):
            uses = [(x, column - x * s.stride) for x in range(s.width) if 0 <= column - x * s.stride < s.size]
            if uses:
                value = e.broadcast(e.at(row, column * FLOAT_BYTES))
            for x, j in uses:
                for v in range(s.vectors):
                    sums[x * s.vectors + v] = e.fma(value, w[j][v], sums[x * s.vectors + v])
        loop.end(sums)
        target = e.pointer(out)
        places = [
            e.at(e.at(target, e.times(x, out_pixel)), v * e.bytes) for x in range(s.width) for v in range(s.vectors)
        ]
        store_activated(
            e, e.pointer(step_), sums, places,
            lambda code: activate_in_place(e, e.pointer(step_), code, target, i64(s.width), out_pixel, s.vectors),
        )  # fmt: skip

    return integer_intrinsic(name, 7, body)
