"""Turns a product with a constant matrix into ``linear``.

It must not touch products whose matrix is not constant, or has more than two axes.
"""

from __future__ import annotations

from sepcore.ir.graph import Graph, Node
from sepcore.passes.rewrite import Rewrite, replaced


def canonicalise_linear(graph: Graph) -> Graph:
    """Turn ``matmul`` with a constant (in, out) into ``linear``; ``merge_scale`` then takes in a bias that follows.

    A matrix that several products share is turned once.
    """
    turned: dict[str, str] = {}

    def match(rewrite: Rewrite, node: Node) -> Node | None:
        if node.op != "matmul":
            return None
        x, name = node.inputs
        matrix = rewrite.constant(name)
        if matrix is None or matrix.ndim != 2 or rewrite.constant(x) is not None:
            return None
        if name not in turned:
            turned[name] = rewrite.add_constant(f"{node.name}.weight", matrix.T)
        return node.with_(op="linear", inputs=(x, turned[name]), attrs={"activation": None})

    return replaced(graph, match)
