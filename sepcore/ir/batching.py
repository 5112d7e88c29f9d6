"""Whether the images of a batch stay apart in a graph, so that what is planned for one can be repeated for the others.

It must not change a graph.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from math import prod

import numpy as np

from sepcore.errors import GraphError
from sepcore.ir.graph import Array, Graph, Node, Value, named
from sepcore.ir.infer import KNOWN_ELEMENTS, calls, infer_shapes, specialise
from sepcore.ir.ops import custom

_ALONG_ONE_AXIS = frozenset({"concat", "split", "softmax", "log_softmax"})
_IMAGES_FIRST = frozenset(
    {"conv2d", "conv_transpose2d", "max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d", "resize",
     "channel_shuffle", "batch_norm", "prelu"}
)  # fmt: skip


def mixed_images(graph: Graph, shapes: Mapping[str, tuple[int, ...]], batch: int) -> list[str]:
    """One line for every node and output at which an image's result depends on the other images of its batch.

    The axis of the images is the one that grows with the batch; it may move, as long as it comes back to be the first.

    Parameters
    ----------
    graph : not specialised; ``shapes`` of its inputs for one image.
    """
    many = {name: (batch, *shape[1:]) for name, shape in shapes.items()}
    found = []
    apart: set[str] = set()
    axes: dict[str, int] = {value.name: 0 for value in graph.inputs}
    try:
        one = infer_shapes(graph, shapes)
        apart = _taken_apart(graph, shapes, batch)
        for call, outputs in calls(graph, many):
            if call.node.op == "shape" or axes.keys().isdisjoint(call.node.inputs):
                continue
            node = call.operator.static(call, outputs)
            grown = {value.name: _grown(one[value.name], value, batch) for value in outputs}
            for name, axis in grown.items():
                if node.name in apart and axis == node.attrs["axis"] == axes.get(node.inputs[0]):
                    continue
                if axis is None or _mixes(node, name, axis, axes, one):
                    found.append(f"{named(call.node)}: it mixes the images of a batch")
                    break
            # After a node that is listed, images count as first: each mistake is said once.
            axes.update((name, axis or 0) for name, axis in grown.items())
    except GraphError as error:
        return [f"its shapes do not fit several images: {error}"]
    found += _counting(graph, shapes, many, batch, apart)
    behind = [name for name in graph.outputs if axes.get(name, 0) != 0]
    return found + [f"output {name!r}: its images are along axis {axes[name]}, not the first" for name in behind]


def _counting(
    graph: Graph,
    shapes: Mapping[str, tuple[int, ...]],
    many: Mapping[str, tuple[int, ...]],
    batch: int,
    apart: Set[str],
) -> list[str]:
    """One line for every node and output that reads numbers which follow from how many images there are."""
    one, other = specialise(graph, shapes), specialise(graph, many)
    counting = {
        name
        for name in one.constants.keys() & other.constants.keys()
        if one.constants[name] is not other.constants[name]
        and not _repeated(one.constants[name], other.constants[name], batch)
    }
    readers = [node for node in one.nodes if node.name not in apart and counting & set(node.inputs)]
    found = [f"{named(node)}: it counts the images of a batch" for node in readers]
    return found + [f"output {name!r}: it counts the images of a batch" for name in one.outputs if name in counting]


def _taken_apart(graph: Graph, shapes: Mapping[str, tuple[int, ...]], batch: int) -> set[str]:
    """Names of the gathers that take, along the axis of the images, the same elements of each image for itself.

    Exporters write PyTorch's ``as_strided`` so: all images in one row, and indices that go on from image to image.
    """
    if not any(node.op == "gather" and node.inputs[1] not in graph.constants for node in graph.nodes):
        return set()
    one = specialise(graph, shapes)
    values = infer_shapes(one, {})
    found = set()
    for node in one.nodes:
        indices = one.constants.get(node.inputs[1]) if node.op == "gather" else None
        if indices is None or not indices.ndim or not indices.size:
            continue
        # Indices are known up to some number of them: as many images as that allows stand for all.
        count = min(batch, max(KNOWN_ELEMENTS // indices.size, 2))
        many = {name: (count, *shape[1:]) for name, shape in shapes.items()}
        length = int(values[node.inputs[0]].shape[node.attrs["axis"]])
        repeated = [indices + length * image for image in range(count)]
        other = specialise(graph, many).constants.get(node.inputs[1])
        inside = indices.min() >= 0 and indices.max() < length
        if inside and other is not None and np.array_equal(np.concatenate(repeated), other):
            found.add(node.name)
    return found


def _repeated(one: Array, many: Array, batch: int) -> bool:
    """Whether ``many`` is ``one``, or that once for each image along an axis."""
    axis = next((axis for axis, (a, b) in enumerate(zip(one.shape, many.shape)) if a != b), None)
    expected = one if axis is None else np.concatenate([one] * batch, axis)
    return np.array_equal(expected, many, equal_nan=one.dtype.kind == "f")


def _grown(one: Value, many: Value, batch: int) -> int | None:
    """The only axis that differs, if it is ``batch`` times as long."""
    if len(one.shape) != len(many.shape):
        return None
    differing = [axis for axis, (a, b) in enumerate(zip(one.shape, many.shape)) if a != b]
    if len(differing) != 1:
        return None
    (axis,) = differing
    return axis if many.shape[axis] == batch * int(one.shape[axis]) else None


def _mixes(node: Node, output: str, axis: int, axes: Mapping[str, int], one: Mapping[str, Value]) -> bool:
    """Whether a specialised node takes one image's elements for another's; ``output`` has its images along ``axis``."""
    given, attrs = [name for name in node.inputs if name in axes], node.attrs
    first = axes[given[0]]
    if node.op in _IMAGES_FIRST:
        return first != 0 or axis != 0
    user = custom.find(node.op)
    if user is not None and not user.elementwise:  # it is given one image at a time
        return axis != 0 or any(axes[name] != 0 for name in given)
    if node.op in _ALONG_ONE_AXIS:
        return bool(attrs["axis"] == axis) or any(axes[name] != axis for name in given)
    if node.op == "gather":
        # The axes of the indices stand where the one that they choose from stood.
        more = len(one[node.inputs[1]].shape) - 1
        taken = int(attrs["axis"])
        return node.inputs[1] in axes or first == taken or axis != first + (more if first > taken else 0)
    if node.op.startswith("reduce_"):
        return first in attrs["axes"]
    if node.op == "slice":
        return bool(attrs["starts"][first] != 0 or attrs["steps"][first] != 1)
    if node.op == "pad":
        return any(attrs["pads"][first])
    if node.op == "transpose":
        return bool(attrs["perm"][axis] != first)
    if node.op == "reshape":
        # As many elements stand before the images' axis: the runs that belong to one image stay the same.
        return _before(one[given[0]], first) != _before(one[output], axis)
    rank = len(one[output].shape)
    if node.op == "matmul":
        return _mixes_matrices(node, rank, axis, axes, one)
    if node.op == "linear":
        return first != axis or first == rank - 1
    # Operands are aligned at their last axes.
    return any(axes[name] - len(one[name].shape) != axis - rank for name in given)


def _mixes_matrices(node: Node, rank: int, axis: int, axes: Mapping[str, int], one: Mapping[str, Value]) -> bool:
    """Images may be a batch of matrices, or rows or columns of a product with something that holds no images."""
    ranks = [len(one[name].shape) for name in node.inputs]
    batch = rank - sum(r > 1 for r in ranks)
    for side, (name, r) in enumerate(zip(node.inputs, ranks)):
        if name not in axes:
            continue
        alone = node.inputs[1 - side] not in axes
        summed, free = (r - 1, r - 2) if side == 0 else (max(r - 2, 0), r - 1)
        if axes[name] == summed:
            return True
        if axes[name] == free:
            if not alone or axis != (batch if side == 0 else rank - 1):
                return True
        elif axes[name] - (r - 2) != axis - batch:
            return True
    return False


def _before(value: Value, axis: int) -> int:
    return prod(int(length) for length in value.shape[:axis])
