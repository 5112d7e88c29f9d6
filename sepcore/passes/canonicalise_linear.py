"""Turns a product with a constant matrix into ``linear``.

It must not touch products whose matrix is not constant, or has more than two axes.
"""

from __future__ import annotations

from sepcore.ir.graph import Graph, Node
from sepcore.passes.rewrite import Rewrite, replaced


def canonicalise_linear(graph: Graph) -> Graph:
    """Turn ``matmul`` with a constant (in, out) into ``linear``; ``merge_scale`` then takes in a bias that follows."""
    return replaced(graph, _match)


def _match(rewrite: Rewrite, node: Node) -> Node | None:
    if node.op != "matmul":
        return None
    matrix = rewrite.constant(node.inputs[1])
    if matrix is None or matrix.ndim != 2 or rewrite.constant(node.inputs[0]) is not None:
        return None
    weight = rewrite.add_constant(f"{node.name}.weight", matrix.T)
    return node.with_(op="linear", inputs=(node.inputs[0], weight), attrs={"activation": None})
