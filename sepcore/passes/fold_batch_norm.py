"""Folds batch normalisation into the weights of the convolution before it.

It must not need shapes; normalisations that it leaves are taken by ``lower_batch_norm``.
"""

from __future__ import annotations

import numpy as np

from sepcore.ir.graph import Array, Graph, Node
from sepcore.ir.ops import operator_of
from sepcore.ir.ops.operator import node_error
from sepcore.passes.merge_scale import CONVOLUTIONS, absorbed, absorbing, output_channels
from sepcore.passes.rewrite import Rewrite, replaced, to_fixed_point


@to_fixed_point
def fold_batch_norm(graph: Graph) -> Graph:
    """Fold ``batch_norm`` after a convolution into its weight and bias, in float64 and with the node's own eps.

    Source: Jacob et al., Quantization and Training of Neural Networks, 2018, section 3.2.
    """
    return replaced(graph, _match)


def _match(rewrite: Rewrite, node: Node) -> Node | None:
    if node.op != "batch_norm":
        return None
    product = absorbing(rewrite, node.inputs[0], *CONVOLUTIONS)
    affine = scale_and_offset(rewrite, node)
    if product is None or affine is None or len(affine[0]) != output_channels(rewrite, product):
        return None
    return absorbed(rewrite, product, *affine, node)


def scale_and_offset(rewrite: Rewrite, node: Node) -> tuple[Array, Array] | None:
    """What a ``batch_norm`` of constants multiplies and adds per channel, as float64; None where it is not constant.

    Raises
    ------
    GraphError
        If a variance plus eps is not positive.
    """
    constants = [rewrite.constant(name) for name in node.inputs[1:]]
    if any(constant is None for constant in constants):
        return None
    weight, bias, mean, var = (constant.astype(np.float64) for constant in constants if constant is not None)
    eps = operator_of(node).attribute(node, "eps")
    if not (var + eps > 0).all():
        raise node_error(node, "input var", f"variances above -{eps}", str(var.min()))
    scale = weight / np.sqrt(var + eps)
    return scale, bias - mean * scale
