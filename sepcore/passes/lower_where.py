"""Turns a choice between two values by a constant mask into operators that kernels exist for.

It must not touch masks that are computed, nor integers, which are shape arithmetic.
"""

from __future__ import annotations

import numpy as np

from sepcore.ir.graph import Graph, Node
from sepcore.ir.infer import infer_shapes
from sepcore.passes.rewrite import Rewrite


def lower_where(graph: Graph) -> Graph:
    """Make ``where(mask, a, b)`` of floats ``max(min(a, inf or -inf), min(b, -inf or inf))``, exact but for NaN.

    What is not taken is -inf there, and the larger of the two is the other; a NaN that is not taken stays, though.
    """
    if not any(node.op == "where" for node in graph.nodes):
        return graph
    values = infer_shapes(graph, {})
    rewrite = Rewrite(graph)
    nodes: list[Node] = []
    for node in graph.nodes:
        mask = rewrite.constant(node.inputs[0]) if node.op == "where" else None
        if mask is None or values[node.output].dtype != np.float32:
            nodes.append(node)
            continue
        limit = np.where(mask, np.float32(np.inf), np.float32(-np.inf))
        sides = []
        for side, name, most in zip("ab", node.inputs[1:], (limit, -limit)):
            made = rewrite.new_name(f"{node.name}/{side}")
            most_name = rewrite.add_constant(f"{node.name}/most_{side}", most)
            nodes.append(Node("minimum", made, (name, most_name), (made,), {}, node.source))
            sides.append(made)
        nodes.append(node.with_(op="maximum", inputs=tuple(sides)))
    return rewrite.finish(nodes)
