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

Values = Sequence[Any]


def preparing(tile: Tile, isa: Isa) -> Any:
    """An intrinsic ``f(x, x_stride, k, triples, factors, sums, out)``: the pixels of ``tile`` at ``x``.

    They are multiplied with ``factors`` where that is not 0. Reads ``k`` floats of each pixel and of the factors, no
    more; ``sums`` is memory for a vector of each row. What is added up of a row, a vector of it at first, is for all
    rows at once: neither waits for the other.
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
        whole = self.b.select(self.b.icmp_signed(">", self.short, i64(0)), self.short, i64(0))
        self.filled = self.b.and_(whole, i64(-e.lanes))
        """Of each third, what fills registers."""

    def pixels(self, x: Any, x_stride: Any, factors: Any, sums: Any, out: Any) -> None:
        """All rows of the tile."""
        e, b = self.e, self.b
        loop = Loop(b, i64(self.rows))
        squares = self.squares(e.at(x, b.mul(loop.i, x_stride)), factors)
        e.store(squares, e.at(sums, b.mul(loop.i, i64(e.bytes))))
        loop.end()
        scales = self.scales(self.sums_of_rows(sums))
        inverses = b.sub(e.integers(2 * _EXPONENT_OF_ONE << _FRACTION_BITS), scales)
        e.store(b.bitcast(inverses, e.vector), e.at(out, e.bytes))
        e.store(b.bitcast(scales, e.vector), e.at(out, 2 * e.bytes))
        loop = Loop(b, i64(self.rows))
        scale = e.broadcast(e.at(e.at(out, 2 * e.bytes), b.mul(loop.i, i64(FLOAT_BYTES))))
        to = e.at(e.at(out, HEAD_BYTES), b.mul(loop.i, i64(3 * e.bytes)))
        crossed = self.scaled(e.at(x, b.mul(loop.i, x_stride)), factors, scale, to)
        e.store(crossed, e.at(sums, b.mul(loop.i, i64(e.bytes))))
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
            for j, part in enumerate(parts):
                e.store(part, e.at(at, j * e.bytes))
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
            return turn(values, i, [None] * 3)

        def partial(values: Values, i: Any) -> Values:
            left = b.sub(self.triples, i)
            return turn(values, i, [left, left, b.sub(self.short, i)])

        values = self.loop(i64(0), self.filled, start, whole)
        return self.loop(self.filled, self.triples, values, partial)

    def loop(self, begin: Any, end: Any, start: Values, body: Callable[[Values, Any], Values]) -> Values:
        """``body(values, i)`` for every register from lane ``begin`` to ``end``, which may be none."""
        b = self.b
        before, head, inside, behind = b.block, *(b.append_basic_block(n) for n in ("head", "inside", "behind"))
        b.branch(head)
        b.position_at_end(head)
        i = b.phi(I64)
        i.add_incoming(begin, before)
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

    def sums_of_rows(self, sums: Any, signs: Sequence[float] = ()) -> Any:
        """A register of what each row's vector adds up to, with ``signs`` for its lanes."""
        e = self.e
        values = [e.load(e.at(sums, i * e.bytes)) for i in range(self.rows)]
        if signs:
            values = [self.b.fmul(value, ir.Constant(e.vector, list(signs))) for value in values]
        values += [e.splat_constant(0.0)] * (e.lanes - self.rows)
        while len(values) > 1:
            half = len(values) // 2
            values = [self.halves_added(x, y, half) for x, y in zip(values[:half], values[half:])]
        return values[0]

    def halves_added(self, x: Any, y: Any, width: int) -> Any:
        """Of every ``2 * width`` lanes of x the halves added, and then those of y."""
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
