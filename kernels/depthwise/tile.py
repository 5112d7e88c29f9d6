"""The depthwise micro-kernel: a register tile of output pixels, so that each loaded input feeds every output it can.

It must not know how tiles are spread over a map, nor where rows outside the map come from.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sepcore.kernels.activation.store import activate_in_place, store_activated
from sepcore.kernels.depthwise.rows import Window
from sepcore.kernels.emit import FLOAT_BYTES, I64, Emitter, Loop, i64, integer_intrinsic
from sepcore.kernels.isa import Isa


def depthwise_tile(window: Window, left: int, right: int, isa: Isa) -> Any:
    """An intrinsic that computes one tile for a range of channels.

    ``f(row_pointers, x_offset, weights, out, channels, x_pixel, out_row, out_pixel, step, sums, sums_row, column,
    skip)``: input row r of the tile starts at ``row_pointers[r] + x_offset``; its first ``left`` and last ``right``
    columns lie outside the map and are not read. ``channels`` is a multiple of the lanes; strides in bytes. Rows are
    stored from the last to the first: with ``out_row`` 0 the first one stays. Where ``sums`` is not 0, the outputs of
    row y are added to the channels at ``sums + y * sums_row`` one after another, but the first ``skip`` of them, which
    the tile before has added; they are the first there in ``column`` 0.
    """
    w = window
    name = f"depthwise_{isa.name}_k{w.size}s{w.stride}_{w.rows}x{w.width}_l{left}r{right}"

    def body(b: Any, args: Any) -> None:
        _Writer(Emitter(b, isa), window, left, right).channels(args)

    return integer_intrinsic(name, 13, body)


class _Writer:
    def __init__(self, e: Emitter, window: Window, left: int, right: int) -> None:
        self.e, self.b, self.window = e, e.b, window
        self.columns = range(left, window.input_columns - right)

    def channels(self, args: Any) -> None:
        """The loop over vectors of channels."""
        e, b, w = self.e, self.b, self.window
        pointers, x_offset, weights, out, channels, self.x_pixel, self.out_row, self.out_pixel, step_ = args[:9]
        sums, self.sums_row, column, self.skip = args[9:]
        self.step = e.pointer(step_)
        self.has_sums = b.icmp_unsigned("!=", sums, i64(0))
        self.is_first = b.icmp_unsigned("==", column, i64(0))
        table = e.pointer(pointers)
        rows = [e.pointer(b.add(b.load(e.at(table, 8 * r), align=8, typ=I64), x_offset)) for r in range(w.input_rows)]
        loop = Loop(b, channels, e.lanes)
        offset = b.shl(loop.i, i64(2))
        taps = e.at(e.pointer(weights), b.mul(loop.i, i64(FLOAT_BYTES * (w.size * w.size + 1))))
        self.row_sums = e.at(e.pointer(sums), offset)
        self.finish(self.products([e.at(row, offset) for row in rows], taps), e.at(e.pointer(out), offset))
        loop.end()

    def products(self, rows: list[Any], taps: Any) -> list[list[Any]]:
        """bias + the window's products; the two weight rows that an input row meets are the only ones live."""
        e, w = self.e, self.window
        sums = [[e.load(taps)] * w.width for _ in range(w.rows)]
        weight = [[e.load(e.at(taps, (1 + i * w.size + j) * e.bytes)) for j in range(w.size)] for i in range(w.size)]
        for r, row in enumerate(rows):
            for c in self.columns:
                uses = [
                    (y, x, r - y * w.stride, c - x * w.stride)
                    for y in range(w.rows)
                    for x in range(w.width)
                    if 0 <= r - y * w.stride < w.size and 0 <= c - x * w.stride < w.size
                ]
                if uses:
                    value = e.load(e.at(row, e.times(c, self.x_pixel)))
                for y, x, i, j in uses:
                    sums[y][x] = e.fma(value, weight[i][j], sums[y][x])
        return sums

    def finish(self, sums: list[list[Any]], out: Any) -> None:
        """Activation and the only store, the last row first."""
        e, w = self.e, self.window
        order = [(y, x) for y in reversed(range(w.rows)) for x in range(w.width)]
        places = [e.at(e.at(out, e.times(y, self.out_row)), e.times(x, self.out_pixel)) for y, x in order]
        values = [sums[y][x] for y, x in order]
        store_activated(e, self.step, values, places, lambda c: self.activate_stored(out, c), self.add_up)

    def add_up(self, stored: Sequence[Any]) -> None:
        """The sum of each row, one output after another: it does not depend on how wide tiles are."""
        e, b, w = self.e, self.b, self.window
        with b.if_then(self.has_sums, likely=False):
            places = [e.at(self.row_sums, e.times(y, self.sums_row)) for y in reversed(range(w.rows))]
            totals = [e.load(place) for place in places]  # all of them first: with ``sums_row`` 0 they are one place
            for place, total, row in zip(places, totals, range(0, len(stored), w.width)):
                for x, value in enumerate(stored[row : row + w.width]):
                    added = b.fadd(total, value)
                    if x == 0:
                        added = b.select(self.is_first, value, added)
                    if x < w.width - 1:  # the last one is new in every tile
                        added = b.select(b.icmp_unsigned(">", self.skip, i64(x)), total, added)
                    total = added
                e.store(total, place)

    def activate_stored(self, out: Any, code: int) -> None:
        e, b, w = self.e, self.b, self.window
        one_row = b.icmp_unsigned("==", self.out_row, i64(0))
        down = Loop(b, b.select(one_row, i64(1), i64(w.rows)), 1)
        row = e.at(out, b.mul(down.i, self.out_row))
        activate_in_place(e, self.step, code, row, i64(w.width), self.out_pixel, 1)
        down.end()
