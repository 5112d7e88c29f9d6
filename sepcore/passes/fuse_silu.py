"""Recognises x * sigmoid(x).

It must not touch a gate whose sigmoid is of another value, as in squeeze-excite.
"""

from __future__ import annotations

from sepcore.ir.graph import Graph, Node
from sepcore.passes.expression import close, products
from sepcore.passes.rewrite import Rewrite, replaced


def fuse_silu(graph: Graph) -> Graph:
    """Turn x * sigmoid(x) into ``silu``. Source: Elfwing et al., Sigmoid-Weighted Linear Units, 2017."""
    return replaced(graph, _match)


def _match(rewrite: Rewrite, node: Node) -> Node | None:
    if node.op != "mul":
        return None
    for factor, x, gate in products(rewrite, node):
        sigmoid = rewrite.producer(gate, "sigmoid")
        if sigmoid is not None and sigmoid.inputs[0] == x and close(factor, 1.0):
            return node.with_(op="silu", inputs=(x,))
    return None
