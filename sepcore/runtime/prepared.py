"""A program that is ready to run, with a context for each call in flight; it must not plan or compile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sepcore.plan.program import Program
from sepcore.runtime.context import Context
from sepcore.runtime.pool import WALK_IMAGES, Pool
from sepcore.runtime.prange import Prange


class Prepared:
    """A program, the addresses of its kernels, and the contexts that no call is using.

    Parameters
    ----------
    pool : who runs it.
    weights : address that the program's weights are counted from; 0 where its operands hold addresses.
    """

    def __init__(self, program: Program, addresses: Mapping[str, int], pool: Pool | Prange, weights: int = 0) -> None:
        self.program = program
        self.output_shapes = tuple(spec.shape for spec in program.outputs)
        self._addresses = {**addresses, WALK_IMAGES: pool.walk_images_address}
        self._pool, self._weights = pool, weights
        self._free: list[Context] = []

    def run(self, inputs: Sequence[int], outputs: Sequence[int]) -> None:
        """Run the program once, on the caller's arrays: the addresses of contiguous float32 inputs and outputs."""
        try:
            context = self._free.pop()
        except IndexError:
            context = Context(self.program, self._addresses, WALK_IMAGES, self._weights)
        context.point_at(inputs, outputs)
        try:
            self._pool.run(context.request, self.program.threads)
        finally:
            self._free.append(context)
