"""A program that is ready to run, with a context for each call in flight; it must not plan or compile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from sepcore.runtime.context import Context
from sepcore.runtime.linked import Linked
from sepcore.runtime.pool import WALK_IMAGES, Pool

if TYPE_CHECKING:
    from sepcore.runtime.prange import Prange


class Prepared:
    """A program, the addresses of its kernels, and the contexts that no call is using.

    Parameters
    ----------
    addresses : of the kernels, by name.
    pool : who runs it.
    regions : addresses of the regions of packed weights; ``keep_alive`` holds them.
    """

    def __init__(
        self,
        linked: Linked,
        addresses: Mapping[str, int],
        pool: Pool | Prange,
        regions: Sequence[int],
        keep_alive: object = None,
    ) -> None:
        self.threads = linked.threads
        self.output_shapes = tuple(shape for _, shape in linked.outputs)
        self._linked, self._regions, self._keep_alive = linked, tuple(regions), keep_alive
        self._addresses = {**addresses, WALK_IMAGES: pool.walk_images_address}
        self._pool = pool
        self._free: list[Context] = []

    def new_context(self) -> Context:
        """A context that is the caller's own."""
        return Context(self._linked, self._addresses, self._regions)

    def run(self, inputs: Sequence[int], outputs: Sequence[int]) -> None:
        """Run the program once, on the caller's arrays: the addresses of contiguous float32 inputs and outputs."""
        try:
            context = self._free.pop()
        except IndexError:
            context = self.new_context()
        context.point_at(inputs, outputs)
        try:
            self._pool.run(context.request, self.threads)
        finally:
            self._free.append(context)
