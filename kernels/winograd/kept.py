"""Register tiles whose sums go to scratch memory between products: more of them than there are registers."""

from __future__ import annotations

from typing import Any

from sepcore.kernels.pointwise.tile import TileWriter


class KeepingWriter(TileWriter):
    """Has places for a tile's sums, ``kept_bytes`` each, from ``kept`` (a pointer) on."""

    kept: Any
    kept_bytes: int

    def zeros(self) -> list[Any]:
        """Accumulators at first, where no bias is added."""
        return [self.e.splat_constant(0.0)] * (self.kept_bytes // self.e.bytes)

    def keep(self, sums: list[Any], place: Any) -> None:
        """Sums to a place: its number, or an i64 value."""
        at = self.e.at(self.kept, self.e.times(self.kept_bytes, place))
        for i, value in enumerate(sums):
            self.e.store(value, self.e.at(at, i * self.e.bytes))

    def recalled(self, place: Any) -> list[Any]:
        """The sums that are kept there.

        Of plain loads LLVM would see what was stored, and spill that to the stack besides: lines of it that two
        stores share.
        """
        at = self.e.opaque(self.e.at(self.kept, self.e.times(self.kept_bytes, place)))
        return [self.e.load(self.e.at(at, i * self.e.bytes)) for i in range(self.kept_bytes // self.e.bytes)]

    def with_kept(self, sums: list[Any], place: Any) -> list[Any]:
        """Sums, and what is kept at a place added to them."""
        return [self.b.fadd(x, y) for x, y in zip(sums, self.recalled(place))]
