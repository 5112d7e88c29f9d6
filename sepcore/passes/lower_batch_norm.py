"""Turns batch normalisation that no convolution could take in into operators that kernels exist for.

It must not see a graph whose input shapes are unknown: what a channel is depends on the number of axes.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sepcore.ir.graph import Graph, Node
from sepcore.ir.infer import infer_shapes
from sepcore.ir.ops import operator_of
from sepcore.passes.fold_batch_norm import scale_and_offset
from sepcore.passes.merge_scale import absorbed, absorbing
from sepcore.passes.rewrite import Rewrite


def lower_batch_norm(graph: Graph) -> Graph:
    """Make ``batch_norm`` of constants part of a linear before it, a depthwise 1x1 convolution, or a mul and an add."""
    if not any(node.op == "batch_norm" for node in graph.nodes):
        return graph
    values = infer_shapes(graph, {})
    rewrite = Rewrite(graph)
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.op == "batch_norm":
            nodes.extend(_lowered(rewrite, node, len(values[node.output].shape)))
        else:
            nodes.append(node)
    return rewrite.finish(nodes)


def _lowered(rewrite: Rewrite, node: Node, rank: int) -> Iterator[Node]:
    affine = scale_and_offset(rewrite, node)
    if affine is None:
        yield node
        return
    x, (scale, offset) = node.inputs[0], (numbers.astype(np.float32) for numbers in affine)
    linear = absorbing(rewrite, x, "linear")
    if linear is not None and rank == 2:
        yield absorbed(rewrite, linear, *affine, node)
    elif rank == 4:
        weight = rewrite.add_constant(f"{node.name}.weight", scale.reshape(-1, 1, 1, 1))
        bias = rewrite.add_constant(f"{node.name}.bias", offset)
        depthwise = node.with_(op="conv2d", inputs=(x, weight, bias), attrs={"groups": len(scale)})
        yield operator_of(depthwise).spelled_out(depthwise)
    else:
        shape = (-1, *(1,) * (rank - 2))
        factor = rewrite.add_constant(f"{node.name}.scale", scale.reshape(shape))
        addend = rewrite.add_constant(f"{node.name}.offset", offset.reshape(shape))
        scaled = rewrite.new_name(f"{node.name}:scaled")
        yield node.with_(op="mul", name=scaled, inputs=(x, factor), outputs=(scaled,), attrs={})
        yield node.with_(op="add", inputs=(scaled, addend), attrs={})
