"""What a graph holds that cannot be planned, all of it at once: operators, dtypes, shapes.

It must not plan.
"""

from __future__ import annotations

from collections.abc import Mapping, Set

import numpy as np

from sepcore.ir.graph import Graph, Node, Value, named
from sepcore.ir.infer import infer_shapes
from sepcore.ir.ops.operator import shape_text

_WITH_WEIGHTS = frozenset({"conv2d", "conv_transpose2d", "linear"})
_OF_MAPS = frozenset(
    {"conv2d", "conv_transpose2d", "max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d", "resize"}
)
_FLOAT32 = np.dtype(np.float32)


def unsupported(graph: Graph, planned: Set[str]) -> list[str]:
    """One line for every input and node of a specialised graph that cannot be planned; ``planned`` operators can."""
    values = infer_shapes(graph, {})
    found = [f"input {value}: only float32 is taken" for value in graph.inputs if value.dtype != _FLOAT32]
    for node in graph.nodes:
        reason = _reason(graph, node, values, planned)
        if reason:
            found.append(f"{named(node)}: {reason}")
    made = graph.producers()
    for value in (values[name] for name in graph.outputs if name not in made):
        if value.dtype != _FLOAT32 or 0 in value.shape:
            found.append(f"output {value}: only float32 is given, and at least one number")
    return found


def _reason(graph: Graph, node: Node, values: Mapping[str, Value], planned: Set[str]) -> str:
    if node.op not in planned:
        return "no kernel computes this operator"
    for name in (*node.inputs, *node.outputs):
        if name and values[name].dtype != _FLOAT32:
            return f"value {values[name]}: only float32 is computed"
    computed = [name for name in node.inputs[1:3] if name and name not in graph.constants]
    if node.op in _WITH_WEIGHTS and computed:
        return f"{computed[0]!r} is computed: weights and bias must be constants, they are packed ahead"
    shape = values[node.inputs[0]].shape
    if node.op in _OF_MAPS and shape[0] != 1:
        return f"{shape_text(shape)} holds {shape[0]} maps of one image: kernels take one"
    if node.op == "pad" and node.attrs["mode"] != "constant":
        pads = node.attrs["pads"]
        if len(pads) != 4 or shape[0] != 1 or any(map(any, pads[:2])):
            return f"mode {node.attrs['mode']!r} with pads {pads}: only height and width of a map can be padded so"
    return ""
