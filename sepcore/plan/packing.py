"""Packs a network's weights for the kernels of an instruction set ahead of time; it must not write files or run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from sepcore.formats.sep_manifest import PackedWeights
from sepcore.ir.graph import Graph
from sepcore.plan.pages import SPARE_BYTES, aligned
from sepcore.plan.shapes import plan_at
from sepcore.plan.weights import WeightStore, portable_key


def pack(
    graph: Graph, shapes: Mapping[str, tuple[int, ...]], isa: str, threads: Sequence[int], tuned: Mapping[str, str]
) -> PackedWeights:
    """The packed weights of the programs that run ``graph`` on one image.

    Parameters
    ----------
    graph : after all passes.
    shapes : of each input, for one image.
    isa : name of the instruction set, which need not be this CPU's.
    threads : numbers of threads that a program is planned for.
    tuned : as :func:`sepcore.plan.plan` takes it.

    Raises
    ------
    GraphError, UnsupportedModelError, PlanError : as :func:`sepcore.plan.shapes.plan_at`.
    """
    store = WeightStore()
    for count in threads:
        plan_at(graph, shapes, isa=isa, batch=1, threads=count, weights=store, tuned=tuned)
    blocks = {}
    end = 0
    for key, content in store.floats():
        blocks[portable_key(key)] = (end, content.size)
        end += aligned(content.size)
    whole = np.zeros(end + SPARE_BYTES, np.uint8)
    for (offset, size), (_, content) in zip(blocks.values(), store.floats()):
        whole[offset : offset + size] = content
    return PackedWeights(tuple(shapes.values()), whole, blocks)
