"""Moves an explicit padding of maps into the padding of the convolution or pooling that reads it.

It must not change what padding counts as: in an average what counted still counts, in a maximum nothing wins that lost.
"""

from __future__ import annotations

import math

from sepcore.ir.graph import Graph, Node
from sepcore.ir.ops import operator_of
from sepcore.passes.rewrite import Rewrite, replaced, to_fixed_point


@to_fixed_point
def fold_pad(graph: Graph) -> Graph:
    """Fold ``pad`` of height and width into conv2d and avg_pool2d (zeros) and max_pool2d (minus infinity)."""
    return replaced(graph, _match)


def _match(rewrite: Rewrite, node: Node) -> Node | None:
    if node.op not in ("conv2d", "avg_pool2d", "max_pool2d"):
        return None
    pad = rewrite.producer(node.inputs[0], "pad")
    row = operator_of(node)
    own = row.attribute(node, "padding")
    if pad is None or isinstance(own, str):
        return None
    edges = _edges(pad, -math.inf if node.op == "max_pool2d" else 0.0)
    if edges is None:
        return None
    padding = tuple(a + b for a, b in zip(own, edges))
    folded = node.with_attrs(padding=padding).with_(inputs=(pad.inputs[0], *node.inputs[1:]))
    if node.op == "conv2d":
        return folded
    # In ceil mode the last window may start in an explicit padding, but not in the pooling's own.
    if row.attribute(node, "ceil_mode"):
        return None
    if node.op == "max_pool2d" or row.attribute(node, "divisor") is not None:
        return folded
    # Explicit padding always counts: the pooling's own must count too, or not be there.
    if any(own) and not row.attribute(node, "count_include_pad"):
        return None
    return folded.with_attrs(count_include_pad=True)


def _edges(pad: Node, value: float) -> tuple[int, int, int, int] | None:
    """Top, left, bottom and right of a ``pad`` that only puts ``value`` around maps."""
    row = operator_of(pad)
    pads = row.attribute(pad, "pads")
    if len(pad.inputs) > 1 or pads is None or len(pads) != 4 or any(map(any, pads[:2])):
        return None
    (top, bottom), (left, right) = pads[2:]
    constant = row.attribute(pad, "mode") == "constant" and row.attribute(pad, "value") == value
    return (top, left, bottom, right) if constant and min(top, left, bottom, right) >= 0 else None
