"""From a graph and input shapes to what runs them: plans, has the kernels made, links; it must not run them."""

from __future__ import annotations

import warnings
from pathlib import Path

from sepcore.compile import kernels_for
from sepcore.errors import GraphError, InputError, UnsupportedModelError
from sepcore.formats.sep_manifest import PackedWeights
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

_COMPILING = "compiling kernels"
Shapes = tuple[tuple[int, ...], ...]

_USUAL = 224
"""Stands for a length that a graph leaves open."""


class Planner:
    """Plans programs for one graph, which share its packed weights.

    Parameters
    ----------
    graph : after all passes; float32 inputs whose first axis counts images.
    isa : name of the instruction set to plan for.
    threads : that one call may use.
    cache_dir : where compiled kernels are kept.
    kept : the graph's weights as a file has them packed for ``isa``.

    Attributes
    ----------
    inputs, outputs : names, dtypes and shapes; a length that may vary is a name.
    tuned : rows that plans take from here on, see ``sepcore.plan.select.Choice``.

    Raises
    ------
    UnsupportedModelError : the graph holds what no kernel runs; lists all of it.
    """

    def __init__(
        self, graph: Graph, isa: str, threads: int, cache_dir: Path | None = None, kept: PackedWeights | None = None
    ) -> None:
        self.inputs, self.outputs = graph.inputs, described_outputs(graph)
        self.weights = WeightStore(kept)
        self._graph, self._isa, self._threads, self._cache_dir = graph, isa, threads, cache_dir
        self._kept, self.tuned = kept, tuned_rows(isa, cache_dir)
        check_supported(graph)

    def program(self, shapes: Shapes) -> Program:
        """The program for inputs of these shapes.

        Raises
        ------
        InputError : the network does not take inputs of these shapes.
        UnsupportedModelError, PlanError : they cannot be run.
        """
        for value, shape in zip(self.inputs, shapes):
            check_shape(value.name, value.shape, shape)
        one, batch = self._one_image(shapes)
        try:
            return plan_at(
                self._graph,
                one,
                isa=self._isa,
                batch=batch,
                threads=self._threads,
                weights=self.weights,
                tuned=self.tuned,
            )
        except GraphError as error:
            raise InputError(f"input {shapes[0]}: {error}") from error

    def _one_image(self, shapes: Shapes) -> tuple[dict[str, tuple[int, ...]], int]:
        """The shapes of what is planned, and how many times a call repeats it.

        Inputs of a fixed first length are computed as a whole: their images, if any, are not known to be apart.
        """
        if not all(value.shape and isinstance(value.shape[0], str) for value in self.inputs) or not self.inputs:
            return {value.name: shape for value, shape in zip(self.inputs, shapes)}, 1
        batches = {shape[0] for shape in shapes}
        if len(batches) != 1:
            raise InputError(f"inputs: expected one batch size, found {', '.join(map(str, sorted(batches)))}")
        return {value.name: (1, *shape[1:]) for value, shape in zip(self.inputs, shapes)}, batches.pop()

    def prepared(self, shapes: Shapes, pool: Pool | Prange) -> Prepared:
        """What runs inputs of these shapes.

        Raises
        ------
        CompileError : a kernel cannot be compiled or loaded.
        Also what ``program`` raises.
        """
        program = self.program(shapes)
        if self._kept is not None and shapes == self._kept.shapes:
            self._check_kept()
        rows = [registry.find(name) for name in program.kernels()]
        with counting(_COMPILING) as progress:
            addresses = kernels_for(rows, self._isa, cache_dir=self._cache_dir, progress=progress)
        return Prepared(link(program), addresses, pool, self.weights.addresses, self.weights)

    def _check_kept(self) -> None:
        if self.weights.repacked:
            warnings.warn(
                f"{self._graph.name}: {self.weights.repacked} of {self.weights.bytes} bytes of weights are not in its "
                f"file as this version of sepcore packs them for {self._isa} here, and are made anew each time it is "
                "opened; convert it again",
                RuntimeWarning,
                stacklevel=2,
            )
            self._kept = None  # said once


def check_supported(graph: Graph) -> None:
    """Raise an UnsupportedModelError that lists all that no kernel runs of a graph after all passes."""
    try:
        specialised = run_shape_passes(specialise(graph, example_shapes(graph)))
    except GraphError:
        return  # the example is of a size the network does not take; calls will say
    if problems := unsupported(specialised):
        raise UnsupportedModelError(graph.name, problems)


def new_pool(isa: str, options: SessionOptions) -> Pool | Prange:
    """Who shares calls as ``options`` want it.

    Raises
    ------
    CompileError : the pool's native functions cannot be compiled or loaded.
    ThreadingError : Numba has no threading layer.
    """
    level = isas.by_name(isa)
    with counting(_COMPILING) as progress:
        pool = pool_for(level, options.cache_dir, progress)
    return shared_prange(level, pool) if options.threading == "prange" else pool


def example_shapes(graph: Graph) -> dict[str, tuple[int, ...]]:
    """A concrete shape for one image, per input: lengths that may vary get 224, or 1 where they count images.

    Where 224 is not allowed, it is the allowed length nearest to it.
    """

    def number(length: int | str, axis: int) -> int:
        if isinstance(length, int) or axis == 0:
            return length if isinstance(length, int) else 1
        least, most = graph.bounds.get(length, (_USUAL, _USUAL))
        return max(least, min(_USUAL, most))

    return {value.name: tuple(number(d, i) for i, d in enumerate(value.shape)) for value in graph.inputs}


def described_outputs(graph: Graph) -> tuple[Value, ...]:
    """Names and shapes of the outputs; a length that depends on the input's is a name."""
    first = example_shapes(graph)
    second = {
        value.name: tuple(
            d if isinstance(d, int) else graph.bounds.get(d, (256, 0))[0] if i else 2 for i, d in enumerate(value.shape)
        )
        for value in graph.inputs
    }
    try:
        one = infer_shapes(graph, first)
        two = one if first == second else infer_shapes(graph, second)
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
