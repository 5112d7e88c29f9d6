"""Drops the nodes that give back their input.

It must not need shapes; what is an identity for certain shapes only is dropped by ``eliminate_unchanged``.
"""

from __future__ import annotations

import math

from sepcore.ir.graph import Graph, Node
from sepcore.ir.ops import operator_of
from sepcore.passes.rewrite import bypassed, to_fixed_point


@to_fixed_point
def eliminate_identity(graph: Graph) -> Graph:
    """Drop ``identity`` and ``dropout``, and operators whose attributes make them do nothing for any input."""
    return bypassed(graph, {node.output: node.inputs[0] for node in graph.nodes if _is_identity(node)})


def _is_identity(node: Node) -> bool:
    if node.op in ("identity", "dropout"):
        return True
    if len(node.inputs) != 1:
        return False
    attrs = operator_of(node).spelled_out(node).attrs
    if node.op == "clamp":
        return bool(attrs["lo"] == -math.inf and attrs["hi"] == math.inf)
    if node.op == "pad":
        return attrs["pads"] is not None and not any(map(any, attrs["pads"]))
    if node.op == "transpose":
        return bool(attrs["perm"] == tuple(range(len(attrs["perm"]))))
    return node.op == "concat"
