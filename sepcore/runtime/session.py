"""A network ready to run: has a program planned for each input shape at first sight, keeps it, and runs it.

It must not read files. One session may be called from many threads at once.
"""

from __future__ import annotations

from _thread import RLock
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from sepcore.errors import OptionError
from sepcore.kernels import isa as isas
from sepcore.options import SessionOptions
from sepcore.runtime.inputs import FLOAT32, address
from sepcore.runtime.prepared import Prepared
from sepcore.runtime.runner import Runner
from sepcore.runtime.threads import num_threads

if TYPE_CHECKING:
    from sepcore.formats.sep_manifest import PackedWeights
    from sepcore.ir.graph import Graph, Value
    from sepcore.plan.program import Program
    from sepcore.runtime.planning import Planner
    from sepcore.runtime.pool import Pool
    from sepcore.runtime.prange import Prange
    from sepcore.runtime.runner import Array
    from sepcore.runtime.startup import Started

Shapes = tuple[tuple[int, ...], ...]
OpenGraph = Callable[[], "tuple[Graph, Mapping[str, PackedWeights]]"]

_KEPT_PROGRAMS = 16
"""Programs kept per session; the one made longest ago goes first."""


class Session(Runner["Value"]):
    """Runs one graph.

    Parameters
    ----------
    graph : after all passes; float32 inputs whose first axis counts images, unless its length is fixed. Or what gives
        it, with its weights as a file has them packed by instruction set: called at once, or with ``started`` when
        that has no program for a call.
    options : threads, precision, cache folder.
    started : a program of this very graph that is ready to run.

    Attributes
    ----------
    inputs, outputs : names, dtypes and shapes; a length that may vary is a name.
    num_threads : threads that one call may use.
    isa : name of the instruction set in use.

    Raises
    ------
    UnsupportedModelError : the graph holds what no kernel runs; lists all of it.
    ThreadingError : by a call, with ``threading="prange"``, where Numba's threading layer would end the process.
    """

    def __init__(
        self, graph: Graph | OpenGraph, options: SessionOptions | None = None, started: Started | None = None
    ) -> None:
        self._options = options or SessionOptions()
        self.isa = chosen_isa().name
        self.num_threads = num_threads(self._options.num_threads)
        self._open: OpenGraph = graph if callable(graph) else lambda: (graph, {})
        self._planned: Planner | None = None
        self._prepared: OrderedDict[Shapes, Prepared] = OrderedDict()
        self._lock = RLock()
        self._pool: Pool | Prange
        if started is None:
            self._names = tuple(value.name for value in self._planner.inputs)
            from sepcore.runtime.planning import new_pool

            self._pool = new_pool(self.isa, self._options)
        else:
            linked = started.linked
            self._names = tuple(name for name, _ in linked.inputs)
            self._pool = started.pool
            self._prepared[tuple(shape for _, shape in linked.inputs)] = started.prepared()

    @property
    def _input_names(self) -> Sequence[str]:
        return self._names

    @property
    def inputs(self) -> tuple[Value, ...]:  # type: ignore[override]
        return self._planner.inputs

    @property
    def outputs(self) -> tuple[Value, ...]:  # type: ignore[override]
        return self._planner.outputs

    @property
    def _planner(self) -> Planner:
        with self._lock:
            if self._planned is None:
                from sepcore.runtime.planning import Planner

                graph, packed = self._open()
                self._planned = Planner(
                    graph, self.isa, self.num_threads, self._options.cache_dir, packed.get(self.isa)
                )
            return self._planned

    def program(self, *shapes: Sequence[int]) -> Program:
        """The program for inputs of these shapes."""
        return self._planner.program(tuple(tuple(s) for s in shapes))

    def retune(self, tuned: Mapping[str, str]) -> None:
        """Take these rows (see ``sepcore.plan.select.Choice``) from here on; what was planned before is forgotten."""
        with self._lock:
            self._planner.tuned = tuned
            self._prepared.clear()

    def prepared(self, *shapes: Sequence[int]) -> Prepared:
        """What runs inputs of these shapes, planned now if it was not."""
        return self._prepare(tuple(tuple(s) for s in shapes))

    def _run(self, arrays: list[Array]) -> list[Array]:
        shapes = tuple([array.shape for array in arrays])
        prepared = self._prepared.get(shapes)
        if prepared is None:
            if shapes and all(shape and shape[0] == 0 for shape in shapes):
                return self._nothing(shapes)
            prepared = self._prepare(shapes)
        outputs = [np.empty(shape, FLOAT32) for shape in prepared.output_shapes]
        prepared.run([address(array) for array in arrays], [address(output) for output in outputs])
        return outputs

    def _nothing(self, shapes: Shapes) -> list[Array]:
        """The outputs for no images."""
        one = self._prepare(tuple((1, *shape[1:]) for shape in shapes))
        return [np.empty((0, *shape[1:]), np.float32) for shape in one.output_shapes]

    def _prepare(self, shapes: Shapes) -> Prepared:
        with self._lock:
            known = self._prepared.get(shapes)
            if known is None:
                known = self._planner.prepared(shapes, self._pool)
                if len(self._prepared) >= _KEPT_PROGRAMS:
                    self._prepared.popitem(last=False)
                self._prepared[shapes] = known
            return known


def chosen_isa() -> isas.Isa:
    """The instruction set to run on.

    Raises
    ------
    OptionError : SEPCORE_CPU_ISA names one that does not exist or that this CPU has not, or no kernels fit the CPU.
    """
    try:
        return isas.chosen()
    except ValueError as error:
        raise OptionError(str(error)) from error
