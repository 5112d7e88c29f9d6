"""Recognises clamping in its spellings.

It must not touch integers, whose maximum and minimum are shape arithmetic.
"""

from __future__ import annotations

import math

from sepcore.ir.graph import Graph, Node
from sepcore.ir.ops import operator_of
from sepcore.passes.rewrite import Rewrite, replaced, to_fixed_point


@to_fixed_point
def fuse_clamp(graph: Graph) -> Graph:
    """Turn maximum and minimum with a number into ``clamp``, two clamps into one, and a clamp at 0 into ``relu``."""
    return replaced(graph, _match)


def _match(rewrite: Rewrite, node: Node) -> Node | None:
    found = _bounds(rewrite, node)
    if found is None:
        return None
    x, lo, hi = found
    inner_node = rewrite.sole_producer(x, "clamp", "relu")
    inner = _bounds(rewrite, inner_node) if inner_node is not None else None
    if inner is not None:
        x, lo, hi = inner[0], min(max(inner[1], lo), hi), min(max(inner[2], lo), hi)
    if (lo, hi) == (0, math.inf):
        return node.with_(op="relu", inputs=(x,), attrs={})
    return node.with_(op="clamp", inputs=(x,), attrs={"lo": lo, "hi": hi})


def _bounds(rewrite: Rewrite, node: Node) -> tuple[str, float, float] | None:
    """What ``node`` clamps and between what, if it does."""
    if node.op == "relu":
        return node.inputs[0], 0.0, math.inf
    if node.op == "clamp":
        row = operator_of(node)
        return node.inputs[0], float(row.attribute(node, "lo")), float(row.attribute(node, "hi"))
    if node.op in ("maximum", "minimum"):
        for x, other in (node.inputs, node.inputs[::-1]):
            number = rewrite.number(other)
            if number is not None and not math.isnan(number):
                return (x, number, math.inf) if node.op == "maximum" else (x, -math.inf, number)
    return None
