"""What a graph holds that cannot be planned, all of it at once: operators, dtypes, shapes, and images that mix.

It must not plan.
"""

from __future__ import annotations

from collections.abc import Mapping, Set

import numpy as np

from sepcore.errors import GraphError
from sepcore.ir.graph import Graph, Node, Value
from sepcore.ir.infer import calls, infer_shapes
from sepcore.ir.ops.operator import shape_text

_WITH_WEIGHTS = frozenset({"conv2d", "conv_transpose2d", "linear"})
_OF_MAPS = frozenset(
    {"conv2d", "conv_transpose2d", "max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d", "resize"}
)
_FLOAT32 = np.dtype(np.float32)


def unsupported(graph: Graph, planned: Set[str]) -> list[str]:
    """One line for every input and node of a specialised graph that cannot be planned; ``planned`` operators can."""
    values = infer_shapes(graph, {})
    found = [f"input {v}: expected float32 with images along its first axis" for v in graph.inputs if not _is_input(v)]
    for node in graph.nodes:
        reason = _reason(graph, node, values, planned)
        if reason:
            found.append(f"{_named(node)}: {reason}")
    return found


def _is_input(value: Value) -> bool:
    return value.dtype == _FLOAT32 and len(value.shape) > 0


def _named(node: Node) -> str:
    return f"{node.op} {node.name!r}{f' ({node.source})' if node.source else ''}"


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


def mixed_images(graph: Graph, shapes: Mapping[str, tuple[int, ...]], batch: int) -> list[str]:
    """One line for every node whose result for an image depends on the other images of its batch.

    Programs are planned for one image and repeated for the others, so such a graph runs on one image at a time.

    Parameters
    ----------
    graph : not specialised; ``shapes`` of its inputs for one image.
    """
    many = {name: (batch, *shape[1:]) for name, shape in shapes.items()}
    try:
        one = infer_shapes(graph, shapes)
        found = []
        dependent = {value.name for value in graph.inputs}
        for call, outputs in calls(graph, many):
            if call.node.op == "shape" or dependent.isdisjoint(call.node.inputs):
                continue
            dependent.update(call.node.outputs)
            scaled = all(_scaled(one[value.name].shape, batch) == value.shape for value in outputs)
            if not scaled or _mixes(call.operator.static(call, outputs), dependent, one):
                found.append(f"{_named(call.node)}: it mixes the images of a batch")
    except GraphError as error:
        return [f"its shapes do not fit several images: {error}"]
    return found


def _scaled(shape: tuple[int | str, ...], batch: int) -> tuple[int, ...]:
    lengths = tuple(int(length) for length in shape)
    return (lengths[0] * batch, *lengths[1:]) if lengths else ()


def _mixes(node: Node, dependent: Set[str], one: Mapping[str, Value]) -> bool:
    """Whether a node whose output grows with the batch still takes one image's elements for another's."""
    attrs = node.attrs
    if node.op in ("concat", "split", "softmax", "log_softmax", "gather"):
        return bool(attrs["axis"] == 0)
    if node.op.startswith("reduce_"):
        return 0 in attrs["axes"]
    if node.op == "slice":
        return bool(attrs["starts"][0] != 0 or attrs["steps"][0] != 1)
    if node.op == "transpose":
        return bool(attrs["perm"][0] != 0)
    if node.op == "pad":
        return any(attrs["pads"][0])
    # Operands that broadcast are aligned at their last axis: a shorter one has its images along another.
    computed = [name for name in node.inputs if name in dependent]
    rank = len(one[node.outputs[0]].shape)
    if node.op == "matmul":
        return any(len(one[name].shape) < (3 if name == node.inputs[1] else rank) for name in computed)
    return len(computed) > 1 and any(len(one[name].shape) < rank for name in computed)
