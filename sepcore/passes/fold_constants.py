"""Computes the nodes whose inputs are all constants.

It must not make a graph much bigger than its file: what would grow it is left to be computed when it runs.
"""

from __future__ import annotations

from sepcore.ir.graph import Graph, frozen, rebuilt
from sepcore.ir.reference import called, elements, evaluate

_SPARE_ELEMENTS = 1 << 20


def fold_constants(graph: Graph) -> Graph:
    """Replace nodes of constants by their outputs, computed in float64 and rounded once.

    All that is folded may have as many elements as the graph's constants have, and a million more.
    """
    constants = dict(graph.constants)
    budget = _SPARE_ELEMENTS + sum(array.size for array in constants.values())
    nodes = []
    for node in graph.nodes:
        if not all(name in constants for name in node.inputs if name):
            nodes.append(node)
            continue
        given = [constants[name] if name else None for name in node.inputs]
        call = called(node, given)
        tensors = call.outputs()
        size = len(tensors) * elements(tensors)
        if size > budget or not call.operator.foldable:
            nodes.append(node)
            continue
        budget -= size
        constants.update(zip(node.outputs, map(frozen, evaluate(call, given, tensors))))
    return rebuilt(graph, nodes, constants)
