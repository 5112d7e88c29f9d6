"""A program for a graph whose lengths may vary, at given input shapes; it must not keep or run programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from sepcore.errors import UnsupportedModelError
from sepcore.ir.batching import mixed_images
from sepcore.ir.graph import Graph
from sepcore.ir.infer import infer_shapes, specialise
from sepcore.passes import run_shape_passes
from sepcore.plan.planner import plan
from sepcore.plan.program import Program
from sepcore.plan.select import NOTHING_TUNED
from sepcore.plan.weights import WeightStore


def plan_at(
    graph: Graph,
    shapes: Mapping[str, tuple[int, ...]],
    *,
    isa: str,
    batch: int,
    threads: int,
    weights: WeightStore,
    tuned: Mapping[str, str] = NOTHING_TUNED,
) -> Program:
    """A program that runs ``graph`` on ``batch`` images of these shapes.

    Parameters
    ----------
    graph : after all passes.
    shapes : of each input, for one image.
    isa, threads, weights, tuned : as :func:`sepcore.plan.plan` takes them.

    Raises
    ------
    GraphError : the graph does not take inputs of these shapes.
    UnsupportedModelError : operators without a rule, or several images that the graph mixes.
    PlanError : a node that no kernel row covers in this shape.
    """
    specialised = run_shape_passes(specialise(graph, shapes))
    values = infer_shapes(specialised, shapes)
    if batch > 1 and (problems := mixed_images(graph, shapes, batch)):
        raise UnsupportedModelError(f"{graph.name}: {batch} images in one call", problems)

    def planned(threads: int) -> Program:
        return plan(specialised, values, isa=isa, batch=batch, threads=threads, weights=weights, tuned=tuned)

    program = planned(threads)
    return replace(program, alone=planned(1)) if threads > 1 and batch == 1 else program


def for_one_image(graph: Graph, shapes: Mapping[str, tuple[int, ...]]) -> tuple[dict[str, tuple[int, ...]], bool]:
    """The shapes that one run of a program is planned for, and whether a call may repeat it for any number of images.

    Parameters
    ----------
    graph : after all passes.
    shapes : of each input; where first lengths are left open, they are taken to be 1.
    """
    if not graph.inputs or not all(value.shape and isinstance(value.shape[0], str) for value in graph.inputs):
        return dict(shapes), False
    one = {name: (1, *shape[1:]) for name, shape in shapes.items()}
    return one, not mixed_images(graph, one, 2)
