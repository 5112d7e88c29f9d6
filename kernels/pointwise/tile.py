"""The pointwise micro-kernel: a register tile of pixels x output channels, written instruction by instruction.

Registers are counted here (rows x vectors accumulators, the weight vectors and two broadcasts), so it is emitted as
LLVM code and not left to a vectoriser. It must not know how tiles are spread over a map.
"""

from __future__ import annotations

from typing import Any

from sepcore.kernels.activation import codes
from sepcore.kernels.activation.emit import emit_activation, is_expensive
from sepcore.kernels.activation.store import activate_in_place, by_activation, parameters
from sepcore.kernels.emit import FLOAT_BYTES, I64, Emitter, Loop, i64, integer_intrinsic
from sepcore.kernels.isa import Isa
from sepcore.kernels.pointwise.rows import COLUMNS, Tile
from sepcore.kernels.step import WORD_BYTES


def pointwise_tile(tile: Tile, isa: Isa, gathered: bool = False) -> Any:
    """An intrinsic that runs ``tile`` down all pixels of one weight panel.

    ``f(a, a_stride, m, panel, k, out, out_stride, residual, residual_stride, step, prefetch,
    prefetch_shift)``: ``m >= rows`` pixels of ``k`` floats at ``a``, next to each other or, where ``gathered``, where
    the step's table says; the panel holds one row of bias and ``k`` rows of weights; strides in bytes;
    ``residual`` is 0 where nothing is added; activation code and parameters are read from ``step``.
    The last tile is moved up to end at the last pixel, so some pixels are computed twice: ``out`` may overlap neither
    ``a`` nor ``residual``. Memory from ``prefetch`` on is asked for on the way: one 64-byte line
    every ``2**prefetch_shift`` k steps.
    Reads and writes whole vectors: strides are multiples of the vector, buffers as long as their strides say.
    """
    kind = "p" * tile.pair + "n" * tile.narrow + "g" * gathered
    name = f"pointwise_{isa.name}_{tile.rows}x{tile.vectors}{kind}"

    def body(b: Any, args: Any) -> None:
        TileWriter(Emitter(b, isa, tile.lanes(isa.lanes)), tile, gathered).panel(args)

    return integer_intrinsic(name, 12, body)


class TileWriter:
    """Writes the parts of a tile; the dense convolution shares them, with rows from a table of pointers."""

    def __init__(self, e: Emitter, tile: Tile, gathered: bool = False) -> None:
        self.e, self.b, self.tile, self.gathered = e, e.b, tile, gathered
        self.isa = e.isa
        self.half = Emitter(e.b, e.isa, e.lanes // 2)

    def panel(self, args: Any) -> None:
        """The loop over tiles of ``rows`` pixels."""
        b, e = self.b, self.e
        (
            a,
            self.a_stride,
            m,
            panel,
            self.k,
            out,
            self.out_stride,
            residual,
            self.residual_stride,
            step_,
            ahead,
            shift,
        ) = args
        self.bias = e.pointer(panel)
        self.weights = e.at(self.bias, self.tile.packed_columns(self.isa.lanes) * FLOAT_BYTES)
        self.step = e.pointer(step_)
        if self.gathered:
            self.columns = e.pointer(b.load(e.at(self.step, WORD_BYTES * COLUMNS), align=8, typ=I64))
        self.ahead_shift = shift
        ahead_bytes = b.shl(b.lshr(self.k, shift), i64(6))
        self.has_residual = b.icmp_unsigned("!=", residual, i64(0))
        if self.tile.pair:
            # Output strides are longer than half a vector. LLVM must not know: of a constant mask
            # it makes a permutation, which takes a multiply-add's port, of one in a register a blend, which does not.
            half = i64(self.isa.lanes // 2)
            shorter = b.icmp_unsigned("<", self.out_stride, half)
            self.low_half = e.lane_mask(b.select(shorter, self.out_stride, half))
        last = b.sub(m, i64(self.tile.rows))
        loop = Loop(b, m, self.tile.rows)
        first = b.select(b.icmp_signed("<", loop.i, last), loop.i, last)
        ahead_offset = b.mul(b.udiv(loop.i, i64(self.tile.rows)), ahead_bytes)
        accumulators = self.products(
            e.at(e.pointer(a), b.mul(first, self.a_stride)), e.at(e.pointer(ahead), ahead_offset)
        )
        self.finish(
            accumulators,
            e.at(e.pointer(out), b.mul(first, self.out_stride)),
            e.at(e.pointer(residual), b.mul(first, self.residual_stride)),
        )
        loop.end()

    def products(self, a: Any, ahead: Any) -> list[Any]:
        """bias + A B of one tile."""
        rows = [self.e.at(a, self.e.times(i, self.a_stride)) for i in range(self.tile.rows)]
        return self.accumulate(self.start(), rows, self.weights, ahead)

    def start(self) -> list[Any]:
        """The accumulators at first: the bias."""
        e, tile = self.e, self.tile
        sums = [e.load(e.at(self.bias, j * e.bytes)) for j in range(tile.vectors)] * tile.rows
        if tile.pair:
            sums += [e.load(e.at(self.bias, tile.vectors * e.bytes))] * (tile.rows // 2)
        return sums

    def accumulate(self, start: list[Any], rows: list[Any], panel: Any, ahead: Any | None) -> list[Any]:
        """``start`` + products over k. The loop is not unrolled: with more in flight LLVM spills accumulators."""
        e, b, tile = self.e, self.b, self.tile
        # Where channels are gathered, each offset is loaded a round ahead: waiting for it, LLVM would issue all of the
        # broadcasts before any product, and spill.
        offsets = [b.load(self.columns, align=8, typ=I64)] if self.gathered else []
        loop = Loop(b, self.k, 1, start + offsets)
        sums = list(loop.carried[: len(start)])
        column = loop.carried[-1] if self.gathered else b.shl(loop.i, i64(2))
        if self.gathered:
            following = b.shl(b.add(loop.i, i64(1)), i64(3))
            offsets = [b.load(e.at(self.columns, following), align=8, typ=I64)]
        weights = e.at(panel, b.mul(loop.i, i64(tile.packed_columns(self.isa.lanes) * FLOAT_BYTES)))
        if ahead is not None:
            e.prefetch(e.at(ahead, b.shl(b.lshr(loop.i, self.ahead_shift), i64(6))))
        w = [e.load(e.at(weights, j * e.bytes)) for j in range(tile.vectors + tile.pair)]
        for i in range(0, tile.rows, 2 if tile.pair else 1):
            x = [e.broadcast(e.at(rows[i + q], column)) for q in range(2 if tile.pair else 1)]
            for q, value in enumerate(x):
                for j in range(tile.vectors):
                    at = (i + q) * tile.vectors + j
                    sums[at] = e.fma(value, w[j], sums[at])
            if tile.pair:
                at = tile.rows * tile.vectors + i // 2
                both = e.blend(self.low_half, x[0], x[1])
                sums[at] = e.fma(both, w[tile.vectors], sums[at])
        loop.end(sums + offsets)
        return sums

    def finish(self, sums: list[Any], out: Any, residual: Any) -> None:
        """Residual, activation and the only store."""
        b, e = self.b, self.e
        plain = b.block
        with b.if_then(self.has_residual, likely=False):
            added = self.add_residual(sums, residual)
            from_residual = b.block
        merged = []
        for before, after in zip(sums, added):
            phi = b.phi(before.type)
            phi.add_incoming(before, plain)
            phi.add_incoming(after, from_residual)
            merged.append(phi)
        by_activation(e, self.step, lambda code: self.store(merged, out, code))

    def add_residual(self, sums: list[Any], residual: Any) -> list[Any]:
        b, e, tile = self.b, self.e, self.tile
        added = []
        for i in range(tile.rows):
            row = e.at(residual, e.times(i, self.residual_stride))
            for j in range(tile.vectors):
                added.append(b.fadd(sums[i * tile.vectors + j], e.load(e.at(row, j * e.bytes))))
        if tile.pair:
            column = tile.vectors * e.bytes
            for i in range(0, tile.rows, 2):
                low, high = (
                    self.half.load(e.at(e.at(residual, e.times(i + q, self.residual_stride)), column)) for q in (0, 1)
                )
                added.append(b.fadd(sums[tile.rows * tile.vectors + i // 2], e.join(low, high)))
        return added

    def store(self, sums: list[Any], out: Any, code: int) -> None:
        """Store with the activation; an expensive one goes over the stored tile, where registers are free again."""
        e, tile = self.e, self.tile
        p, q = parameters(e, self.step)
        direct = codes.LINEAR if is_expensive(code) else code
        pair_at = tile.rows * tile.vectors
        for i in range(tile.rows):
            row = e.at(out, e.times(i, self.out_stride))
            for j in range(tile.vectors):
                value = emit_activation(e, direct, sums[i * tile.vectors + j], p, q)
                e.store(value, e.at(row, j * e.bytes))
            if tile.pair:
                # One register holds the halves of two rows; LLVM computes its activation once.
                value = emit_activation(e, direct, sums[pair_at + i // 2], p, q)
                half = e.part(value, (i % 2) * (e.lanes // 2), e.lanes // 2)
                self.half.store(half, e.at(row, tile.vectors * e.bytes))
        if is_expensive(code):
            self.activate_stored(out, code)

    def activate_stored(self, out: Any, code: int) -> None:
        tile, rows = self.tile, i64(self.tile.rows)
        if tile.vectors:
            activate_in_place(self.e, self.step, code, out, rows, self.out_stride, tile.vectors)
        if tile.pair:
            column = self.e.at(out, tile.vectors * self.e.bytes)
            activate_in_place(self.half, self.step, code, column, rows, self.out_stride, 1)
