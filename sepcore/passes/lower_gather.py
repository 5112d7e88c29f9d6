"""Writes elements taken at constant indices along an axis as slices, which a plan has without moving anything.

It must not touch indices that are computed, or so scattered that slices would be many.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sepcore.ir.graph import Array, Graph, Node, rebuilt
from sepcore.ir.infer import infer_shapes

_MOST_SLICES = 64


def lower_gather(graph: Graph) -> Graph:
    """Replace each gather of a specialised graph by a slice per run of evenly spaced indices, joined and reshaped."""
    if not any(node.op == "gather" for node in graph.nodes):
        return graph
    values = infer_shapes(graph, {})
    nodes: list[Node] = []
    for node in graph.nodes:
        indices = graph.constants.get(node.inputs[1]) if node.op == "gather" else None
        if indices is None or node.inputs[0] in graph.constants or not indices.size:
            nodes.append(node)
            continue
        axis = node.attrs["axis"]
        lengths = [int(number) for number in values[node.inputs[0]].shape]
        length = lengths[axis]
        runs = list(_runs(indices.reshape(-1) % length))
        if len(runs) > _MOST_SLICES:
            nodes.append(node)
            continue
        parts = [f"{node.name}/slice{position}" for position in range(len(runs))]
        for part, (start, step, count) in zip(parts, runs):
            end = start + count * step
            starts, ends, steps = [0] * len(lengths), list(lengths), [1] * len(lengths)
            starts[axis], ends[axis], steps[axis] = start, end if end >= 0 else -length - 1, step
            attrs = {
                "axes": tuple(range(len(lengths))),
                "starts": tuple(starts),
                "ends": tuple(ends),
                "steps": tuple(steps),
            }
            nodes.append(Node("slice", part, node.inputs[:1], (part,), attrs, node.source))
        if len(parts) > 1:
            joined = f"{node.name}/joined"
            nodes.append(Node("concat", joined, tuple(parts), (joined,), {"axis": axis}, node.source))
            parts = [joined]
        shape = tuple(int(number) for number in values[node.output].shape)
        nodes.append(Node("reshape", node.name, (parts[0],), node.outputs, {"shape": shape}, node.source))
    return rebuilt(graph, nodes)


def _runs(indices: Array) -> Iterator[tuple[int, int, int]]:
    """First index, step and length of each run of evenly spaced indices, the longest there are from the start on."""
    steps = np.diff(indices)
    at = 0
    while at < len(indices):
        step = int(steps[at]) if at < len(steps) else 1
        same = np.flatnonzero(steps[at:] != step)
        count = 1 if step == 0 else 1 + (int(same[0]) if len(same) else len(steps) - at)
        yield int(indices[at]), step or 1, count
        at += count
