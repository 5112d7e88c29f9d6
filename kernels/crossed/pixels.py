"""Writes a tile's pixels to scratch memory, scaled and in the order of the crossed tile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir

from sepcore.kernels.crossed.rows import HEAD_BYTES
from sepcore.kernels.emit import FLOAT_BYTES, I1, I64, Emitter, Loop, i64, integer_intrinsic
from sepcore.kernels.isa import Isa
from sepcore.kernels.pointwise.rows import Tile

_FRACTION_BITS, _EXPONENT_OF_ONE = 23, 127
_KEPT_LANES = 4

Values = Sequence[Any]


def preparing(tile: Tile, isa: Isa) -> Any:
    """An intrinsic ``f(x, x_stride, k, triples, factors, sums, out)``: the pixels of ``tile`` at ``x``.

    They are multiplied with ``factors`` where that is not 0. Reads ``k`` floats of each pixel and of the factors, no
    more; ``sums`` is memory for SUM_BYTES. What is added up of a row, four lanes of it at first, is for all rows at
    once: neither waits for the other.
    """

    def body(b: Any, args: Any) -> None:
        x, x_stride, k, triples, factors, sums, out = args
        writer = _PixelWriter(Emitter(b, isa), tile.rows, k, triples)
        pointers = [writer.e.pointer(p) for p in (x, sums, out)]
        with b.if_else(b.icmp_unsigned("!=", factors, i64(0))) as (multiplied, plain):
            with multiplied:
                writer.pixels(pointers[0], x_stride, writer.e.pointer(factors), *pointers[1:])
            with plain:
                writer.pixels(pointers[0], x_stride, None, *pointers[1:])

    return integer_intrinsic(f"crossed_pixels_{isa.name}_{tile.rows}", 7, body)


class _PixelWriter:
    def __init__(self, e: Emitter, rows: int, k: Any, triples: Any) -> None:
        self.e, self.b, self.rows, self.triples = e, e.b, rows, triples
        self.short = self.b.sub(k, self.b.mul(i64(2), triples))
        """Channels of the last third, which may be fewer."""
        self.last = self.b.and_(self.b.sub(triples, i64(1)), i64(-e.lanes))
        """Where the last register of each third begins."""

    def pixels(self, x: Any, x_stride: Any, factors: Any, sums: Any, out: Any) -> None:
        """All rows of the tile."""
        e, b = self.e, self.b
        loop = Loop(b, i64(self.rows))
        self.keep(self.squares(e.at(x, b.mul(loop.i, x_stride)), factors), sums, loop.i)
        loop.end()
        scales = self.scales(self.sums_of_rows(sums))
        inverses = b.sub(e.integers(2 * _EXPONENT_OF_ONE << _FRACTION_BITS), scales)
        e.store(b.bitcast(inverses, e.vector), e.at(out, e.bytes))
        e.store(b.bitcast(scales, e.vector), e.at(out, 2 * e.bytes))
        loop = Loop(b, i64(self.rows))
        scale = e.broadcast(e.at(e.at(out, 2 * e.bytes), b.mul(loop.i, i64(FLOAT_BYTES))))
        to = e.at(e.at(out, HEAD_BYTES), b.mul(loop.i, i64(3 * e.bytes // 2)))
        self.keep(self.scaled(e.at(x, b.mul(loop.i, x_stride)), factors, scale, to), sums, loop.i)
        loop.end()
        e.store(self.sums_of_rows(sums, [-1.0, 1.0] * (e.lanes // 2)), out)

    def squares(self, x: Any, factors: Any) -> Any:
        """What a row's squares add up to, by lanes."""
        e = self.e

        def add(values: Values, parts: Values, i: Any) -> Values:
            return [e.fma(part, part, value) for part, value in zip(parts, values)]

        first, second, third = self.over_thirds(x, factors, [e.splat_constant(0.0)] * 3, add)
        return self.b.fadd(self.b.fadd(first, second), third)

    def scaled(self, x: Any, factors: Any, scale: Any, to: Any) -> Any:
        """Writes a row; what its crossed products add up to, by lanes."""
        e, b = self.e, self.b

        def write(values: Values, parts: Values, i: Any) -> Values:
            parts = [b.fmul(part, scale) for part in parts]
            at = e.at(to, b.mul(i, i64(3 * FLOAT_BYTES * self.rows)))
            half = e.lanes // 2
            for j, part in enumerate(parts):
                for h in range(2):
                    place = h * 3 * self.rows + j
                    e.store(e.part(part, h * half, half), e.at(at, place * half * FLOAT_BYTES))
            return [e.fma(parts[0], parts[1], values[0])]

        (crossed,) = self.over_thirds(x, factors, [e.splat_constant(0.0)], write)
        return crossed

    def over_thirds(self, x: Any, factors: Any, start: Values, body: Callable[[Values, Values, Any], Values]) -> Values:
        """``body(values, a register of each third, their first lane)`` over a row; the last values."""
        e, b = self.e, self.b

        def load(base: Any, i: Any, counts: Sequence[Any]) -> list[Any]:
            first = [b.add(i, b.mul(i64(j), self.triples)) for j in range(3)]
            at = [e.at(base, b.mul(one, i64(FLOAT_BYTES))) for one in first]
            return [e.load(p) if n is None else self.load_part(p, n) for p, n in zip(at, counts)]

        def turn(values: Values, i: Any, counts: Sequence[Any]) -> Values:
            parts = load(x, i, counts)
            if factors is not None:
                parts = [b.fmul(part, factor) for part, factor in zip(parts, load(factors, i, counts))]
            return body(values, parts, i)

        def whole(values: Values, i: Any) -> Values:
            return turn(values, i, [None, None, b.sub(self.short, i)])

        left = b.sub(self.triples, self.last)
        values = self.loop(self.last, start, whole)
        return turn(values, self.last, [left, left, b.sub(self.short, self.last)])

    def loop(self, end: Any, start: Values, body: Callable[[Values, Any], Values]) -> Values:
        """``body(values, i)`` for every register up to lane ``end``, which may be none."""
        b = self.b
        before, head, inside, behind = b.block, *(b.append_basic_block(n) for n in ("head", "inside", "behind"))
        b.branch(head)
        b.position_at_end(head)
        i = b.phi(I64)
        i.add_incoming(i64(0), before)
        values = [b.phi(value.type) for value in start]
        b.cbranch(b.icmp_signed("<", i, end), inside, behind)
        b.position_at_end(inside)
        made = body(values, i)
        i.add_incoming(b.add(i, i64(self.e.lanes)), b.block)
        for phi, first, following in zip(values, start, made):
            phi.add_incoming(first, before)
            phi.add_incoming(following, b.block)
        b.branch(head)
        b.position_at_end(behind)
        return values

    def load_part(self, pointer: Any, count: Any) -> Any:
        """Up to ``count`` lanes, zeros behind; with a mask made by three instructions."""
        e, b = self.e, self.b
        for bound, sign in ((0, "<"), (e.lanes, ">")):
            count = b.select(b.icmp_signed(sign, count, i64(bound)), i64(bound), count)
        bits = b.sub(b.shl(i64(1), count), i64(1))
        mask = b.bitcast(b.trunc(bits, ir.IntType(e.lanes)), ir.VectorType(I1, e.lanes))
        return e.load_where(pointer, mask)

    def keep(self, value: Any, sums: Any, row: Any) -> None:
        """What a row's lanes come to, in a quarter of a register, to its place in ``sums``."""
        e, count = self.e, self.e.lanes
        while count > _KEPT_LANES:
            count //= 2
            value = self.b.fadd(e.part(value, 0, count), e.part(value, count, count))
        e.store(value, e.at(sums, self.b.mul(row, i64(FLOAT_BYTES * _KEPT_LANES))))

    def sums_of_rows(self, sums: Any, signs: Sequence[float] = ()) -> Any:
        """A register of what is kept of each row added up, with ``signs`` for its lanes."""
        e, b = self.e, self.b
        values = [e.load(e.at(sums, i * e.bytes)) for i in range(_KEPT_LANES)]
        if signs:
            values = [b.fmul(value, ir.Constant(e.vector, list(signs))) for value in values]
        for width in (2, 1):
            half = len(values) // 2
            values = [self.halves_added(x, y, width) for x, y in zip(values[:half], values[half:])]
        # Register j had rows 4 j to 4 j + 3: its sums are lanes j of groups of four.
        groups = e.lanes // _KEPT_LANES
        order = [_KEPT_LANES * (row % groups) + row // groups for row in range(e.lanes)]
        return b.shuffle_vector(values[0], values[0], ir.Constant(e.int_vector, order))

    def halves_added(self, x: Any, y: Any, width: int) -> Any:
        """Of every ``2 * width`` lanes the halves of x added, and then those of y."""
        lanes = self.e.lanes
        firsts = [i for g in range(0, lanes, 2 * width) for s in (0, lanes) for i in range(s + g, s + g + width)]
        low, high = (
            self.b.shuffle_vector(x, y, ir.Constant(self.e.int_vector, [i + offset for i in firsts]))
            for offset in (0, width)
        )
        return self.b.fadd(low, high)

    def scales(self, squares: Any) -> Any:
        """The bits of the powers of two that take norms to [1, 2), of their squares."""
        e, b = self.e, self.b
        bits = b.bitcast(squares, e.int_vector)
        exponents = b.sub(b.lshr(bits, e.integers(_FRACTION_BITS)), e.integers(_EXPONENT_OF_ONE))
        halves = b.ashr(exponents, e.integers(1))
        return b.shl(b.sub(e.integers(_EXPONENT_OF_ONE), halves), e.integers(_FRACTION_BITS))
