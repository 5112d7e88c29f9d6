"""Computes the nodes whose inputs are all constants.

It must not make a graph much bigger than its file: what would grow it is left to be computed when it runs.
"""

from __future__ import annotations

from collections import Counter

from sepcore.ir.graph import Graph, frozen, rebuilt
from sepcore.ir.reference import called, elements, evaluate

_SPARE_ELEMENTS = 1 << 20
_COMPUTED_PER_ELEMENT = 64
"""Standardising a convolution's weights takes some ten nodes of their size."""


def fold_constants(graph: Graph) -> Graph:
    """Replace nodes of constants by their outputs, computed in float64 and rounded once.

    What is there at a time may have as many elements more than the graph's constants as those have, and a million;
    what is computed in all, 64 times as many elements as those, and a million. Nodes that compute the same of the same
    constants share what comes out.
    """
    constants = dict(graph.constants)
    total = sum(array.size for array in constants.values())
    room, work = _SPARE_ELEMENTS + total, _SPARE_ELEMENTS + _COMPUTED_PER_ELEMENT * total
    readers = Counter(name for node in graph.nodes for name in node.inputs)
    readers.update(graph.outputs)
    nodes = []
    made: dict[tuple[str, tuple[str, ...], str], tuple[str, ...]] = {}
    for node in graph.nodes:
        if not all(name in constants for name in node.inputs if name):
            nodes.append(node)
            continue
        given = [constants[name] if name else None for name in node.inputs]
        call = called(node, given)
        tensors = call.outputs()
        size = len(tensors) * elements(tensors)
        if size > min(room, work) or not call.operator.foldable:
            nodes.append(node)
            continue
        twin = made.setdefault((node.op, node.inputs, repr(sorted(node.attrs.items()))), node.outputs)
        if all(name in constants for name in twin):
            constants.update(zip(node.outputs, [constants[name] for name in twin]))
        else:
            constants.update(zip(node.outputs, map(frozen, evaluate(call, given, tensors))))
        room, work = room - size, work - size
        readers.subtract(node.inputs)
        for name in {name for name in node.inputs if name and not readers[name]}:
            room += constants.pop(name).size
    return rebuilt(graph, nodes, constants)
