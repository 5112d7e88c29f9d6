"""A program for a graph whose lengths may vary, at given input shapes; it must not keep or run programs."""

from __future__ import annotations

from collections.abc import Mapping

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
    return plan(specialised, values, isa=isa, batch=batch, threads=threads, weights=weights, tuned=tuned)
