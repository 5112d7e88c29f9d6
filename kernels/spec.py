"""What a kernel row is: one operator, tile and instruction set, with the way to build it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class KernelSpec:
    """One row of the registry.

    Attributes
    ----------
    name : unique: operator, tile and instruction set, as in ``f32_pointwise_14x32__avx512``.
    op : operator family (``pointwise``, ``depthwise`` ...); names the reference twin and the test.
    isa : name of the instruction set.
    parameters : what the family's builder was given (the tile, kernel size, stride ...).
    builder : makes the Python function that Numba compiles: ``kernel(step, tile, thread, image)``, all int64.
    arity : number of int64 arguments.
    here_only : whether only this process can build it, because others do not know what it is made of.
    """

    name: str
    op: str
    isa: str
    parameters: Any
    builder: Callable[[KernelSpec], Callable[..., Any]] = field(repr=False, compare=False)
    arity: int = 4
    here_only: bool = False

    def build(self) -> Callable[..., Any]:
        """The function to compile; importing what it needs imports numba."""
        return self.builder(self)
