"""Recognises channel shuffle in its spelling by reshape, transpose and reshape.

It must not need a symbolic shape: it runs on a specialised graph, where every shape is known.
"""

from __future__ import annotations

from sepcore.ir.graph import Graph, Node
from sepcore.ir.infer import infer_shapes
from sepcore.passes.rewrite import Rewrite, replaced


def fuse_channel_shuffle(graph: Graph) -> Graph:
    """Turn reshape (n, g, c/g, h, w), transpose of axes 1 and 2 and reshape back into ``channel_shuffle``.

    Source: Zhang et al., ShuffleNet, 2018, section 3.1.
    """
    if not any(node.op == "reshape" for node in graph.nodes):
        return graph
    values = infer_shapes(graph, {})

    def match(rewrite: Rewrite, node: Node) -> Node | None:
        if node.op != "reshape":
            return None
        transpose = rewrite.producer(node.inputs[0], "transpose")
        split = rewrite.producer(transpose.inputs[0], "reshape") if transpose is not None else None
        if transpose is None or split is None:
            return None
        x = values[split.inputs[0]].shape
        grouped = values[split.output].shape
        swapped = (0, 2, 1, *range(3, len(grouped)))
        if len(x) != 4 or values[node.output].shape != x or transpose.attrs["perm"] != swapped:
            return None
        if grouped[0] != x[0] or grouped[3:] not in (x[2:], (int(x[2]) * int(x[3]),)):
            return None
        return node.with_(op="channel_shuffle", inputs=split.inputs, attrs={"groups": grouped[1]})

    return replaced(graph, match)
