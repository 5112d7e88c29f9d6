"""Puts an activation into the convolution or linear before it.

It must not fuse what the ``activation`` attribute cannot say.
"""

from __future__ import annotations

from sepcore.ir.graph import Graph, Node
from sepcore.ir.ops.activation import activation_of
from sepcore.passes.rewrite import Rewrite, replaced


def fuse_activation(graph: Graph) -> Graph:
    """Make an activation that alone reads a conv2d, conv_transpose2d or linear that node's ``activation`` attribute."""
    return replaced(graph, _match)


def _match(rewrite: Rewrite, node: Node) -> Node | None:
    activation = activation_of(node)
    if activation is None:
        return None
    product = rewrite.sole_producer(node.inputs[0], "conv2d", "conv_transpose2d", "linear")
    if product is None or product.attrs.get("activation") is not None:
        return None
    return product.with_attrs(activation=activation).with_(outputs=node.outputs)
