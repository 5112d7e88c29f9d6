"""Adds a residual inside the convolution that it is added to.

It must not fuse an addition that broadcasts, so it needs shapes.
"""

from __future__ import annotations

from sepcore.ir.graph import Graph, Node
from sepcore.ir.infer import infer_shapes
from sepcore.passes.rewrite import Rewrite, replaced


def fuse_residual(graph: Graph) -> Graph:
    """Make the other side of an add that alone reads a conv2d that node's ``residual`` input.

    Where both sides are such convolutions the later one takes the other in. An activation after the add can still be
    fused by ``fuse_activation``.
    """
    if not any(node.op == "add" for node in graph.nodes):
        return graph
    values = infer_shapes(graph, {})
    position = {node.name: i for i, node in enumerate(graph.nodes)}

    def match(rewrite: Rewrite, node: Node) -> Node | None:
        if node.op != "add" or values[node.inputs[0]].shape != values[node.inputs[1]].shape:
            return None
        found = []
        for x, other in (node.inputs, node.inputs[::-1]):
            conv = rewrite.sole_producer(x, "conv2d")
            free = conv is not None and conv.attrs.get("activation") is None and not any(conv.inputs[3:])
            if conv is not None and free and rewrite.constant(other) is None:
                found.append((position[conv.name], conv, other))
        if not found:
            return None
        _, conv, other = max(found, key=lambda item: item[0])
        return conv.with_(inputs=(*_three(conv.inputs), other), outputs=node.outputs)

    return replaced(graph, match)


def _three(inputs: tuple[str, ...]) -> tuple[str, ...]:
    """x, weight and bias, with "" for an absent bias."""
    return (*inputs, "")[:3]
