"""A network ready to run: plans a program for each input shape at first sight, keeps it, and runs it.

It must not read files. One session may be called from many threads at once.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from sepcore.compile import kernels_for
from sepcore.errors import GraphError, InputError, OptionError, PlanError, UnsupportedModelError
from sepcore.ir.graph import Graph, Value
from sepcore.ir.infer import infer_shapes, specialise
from sepcore.kernels import isa as isas
from sepcore.kernels import registry
from sepcore.options import SessionOptions
from sepcore.passes import run_shape_passes
from sepcore.plan import Program, WeightStore, plan_at, tuned_rows, unsupported
from sepcore.progress import counting
from sepcore.runtime.inputs import check_shape
from sepcore.runtime.linking import link
from sepcore.runtime.native import pool_for
from sepcore.runtime.pool import Pool
from sepcore.runtime.prange import Prange, shared_prange
from sepcore.runtime.prepared import Prepared
from sepcore.runtime.runner import Runner
from sepcore.runtime.threads import num_threads

if TYPE_CHECKING:
    from sepcore.runtime.runner import Array

_COMPILING = "compiling kernels"

_KEPT_PROGRAMS = 16
"""Programs kept per session; the one made longest ago goes first."""


class Session(Runner[Value]):
    """Runs one graph.

    Parameters
    ----------
    graph : after all passes; float32 inputs whose first axis counts images, unless its length is fixed.
    options : threads, precision, cache folder.

    Attributes
    ----------
    inputs, outputs : names, dtypes and shapes; a length that may vary is a name.
    num_threads : threads that one call may use.
    isa : name of the instruction set in use.

    Raises
    ------
    ThreadingError : by a call, with ``threading="prange"``, where Numba's threading layer would end the process.
    """

    def __init__(self, graph: Graph, options: SessionOptions | None = None) -> None:
        options = options or SessionOptions()
        self._graph = graph
        self._options = options
        self.isa = chosen_isa().name
        self.num_threads = num_threads(options.num_threads)
        self.inputs: tuple[Value, ...] = graph.inputs
        self.outputs: tuple[Value, ...] = described_outputs(graph)
        self._check_supported()
        self._weights = WeightStore()
        self._tuned = tuned_rows(self.isa, options.cache_dir)
        self._prepared: OrderedDict[tuple[tuple[int, ...], ...], Prepared] = OrderedDict()
        self._lock = threading.Lock()
        isa = isas.by_name(self.isa)
        with counting(_COMPILING) as progress:
            pool = pool_for(isa, options.cache_dir, progress)
        self._pool: Pool | Prange = shared_prange(isa, pool) if options.threading == "prange" else pool

    def program(self, *shapes: Sequence[int]) -> Program:
        """The program for inputs of these shapes."""
        return self._plan(tuple(tuple(s) for s in shapes))

    def retune(self, tuned: Mapping[str, str]) -> None:
        """Take these rows (see ``sepcore.plan.select.Choice``) from here on; what was planned before is forgotten."""
        with self._lock:
            self._tuned = tuned
            self._prepared.clear()

    def prepared(self, *shapes: Sequence[int]) -> Prepared:
        """What runs inputs of these shapes, planned now if it was not."""
        return self._prepare(tuple(tuple(s) for s in shapes))

    def _run(self, arrays: list[Array]) -> list[Array]:
        shapes = tuple(array.shape for array in arrays)
        if shapes and all(shape and shape[0] == 0 for shape in shapes):
            return self._nothing(shapes)
        prepared = self._prepared.get(shapes) or self._prepare(shapes)
        outputs = [np.empty(shape, np.float32) for shape in prepared.output_shapes]
        prepared.run([a.ctypes.data for a in arrays], [o.ctypes.data for o in outputs])
        return outputs

    def _nothing(self, shapes: tuple[tuple[int, ...], ...]) -> list[Array]:
        """The outputs for no images."""
        one = self._prepare(tuple((1, *shape[1:]) for shape in shapes))
        return [np.empty((0, *shape[1:]), np.float32) for shape in one.output_shapes]

    def _check_supported(self) -> None:
        """Raise now, with all reasons at once, if the graph holds what no kernel runs."""
        shapes = example_shapes(self._graph)
        try:
            graph = run_shape_passes(specialise(self._graph, shapes))
        except GraphError:
            return  # the example is of a size the network does not take; calls will say
        if problems := unsupported(graph):
            raise UnsupportedModelError(self._graph.name, problems)

    def _prepare(self, shapes: tuple[tuple[int, ...], ...]) -> Prepared:
        with self._lock:
            known = self._prepared.get(shapes)
            if known is None:
                program = self._plan(shapes)
                rows = [registry.find(name) for name in program.kernels()]
                with counting(_COMPILING) as progress:
                    addresses = kernels_for(rows, self.isa, cache_dir=self._options.cache_dir, progress=progress)
                known = Prepared(link(program), addresses, self._pool, self._weights.addresses)
                if len(self._prepared) >= _KEPT_PROGRAMS:
                    self._prepared.popitem(last=False)
                self._prepared[shapes] = known
            return known

    def _plan(self, shapes: tuple[tuple[int, ...], ...]) -> Program:
        for value, shape in zip(self.inputs, shapes):
            check_shape(value.name, value.shape, shape)
        one, batch = self._one_image(shapes)
        try:
            return plan_at(
                self._graph,
                one,
                isa=self.isa,
                batch=batch,
                threads=self.num_threads,
                weights=self._weights,
                tuned=self._tuned,
            )
        except GraphError as error:
            raise InputError(f"input {shapes[0]}: {error}") from error

    def _one_image(self, shapes: tuple[tuple[int, ...], ...]) -> tuple[dict[str, tuple[int, ...]], int]:
        """The shapes of what is planned, and how many times a call repeats it.

        Inputs of a fixed first length are computed as a whole: their images, if any, are not known to be apart.
        """
        if not all(value.shape and isinstance(value.shape[0], str) for value in self.inputs) or not self.inputs:
            return {value.name: shape for value, shape in zip(self.inputs, shapes)}, 1
        batches = {shape[0] for shape in shapes}
        if len(batches) != 1:
            raise InputError(f"inputs: expected one batch size, found {', '.join(map(str, sorted(batches)))}")
        return {value.name: (1, *shape[1:]) for value, shape in zip(self.inputs, shapes)}, batches.pop()


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


def example_shapes(graph: Graph) -> dict[str, tuple[int, ...]]:
    """A concrete shape for one image, per input: lengths that may vary get 224, or 1 where they count images."""
    return {
        value.name: tuple(d if isinstance(d, int) else 224 if i else 1 for i, d in enumerate(value.shape))
        for value in graph.inputs
    }


def described_outputs(graph: Graph) -> tuple[Value, ...]:
    """Names and shapes of the outputs; a length that depends on the input's is a name."""
    first = example_shapes(graph)
    second = {
        value.name: tuple(d if isinstance(d, int) else 256 if i else 2 for i, d in enumerate(value.shape))
        for value in graph.inputs
    }
    try:
        one, two = infer_shapes(graph, first), infer_shapes(graph, second)
    except GraphError:
        return tuple(Value(name, ("n",)) for name in graph.outputs)
    return tuple(
        Value(
            name,
            tuple(
                a if a == b else "n" if i == 0 else f"d{i}"
                for i, (a, b) in enumerate(zip(one[name].shape, two[name].shape))
            ),
            one[name].dtype,
        )
        for name in graph.outputs
    )


__all__ = ["PlanError", "Session"]
