"""Opens the number of images of a graph that an exporter fixed at several: kernels take one image after another.

It must not open a graph whose images are mixed, nor guess lengths that are open already.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from sepcore.errors import GraphError
from sepcore.ir.batching import mixed_images
from sepcore.ir.graph import Graph, Node, Value
from sepcore.ir.infer import infer_shapes

_IMAGES = "n"


def open_batch(graph: Graph) -> Graph:
    """The graph for any number of images, if it is for a fixed number, above one, that do not meet.

    The shapes that the exporter wrote into reshape and expand, which count the images too, take as many as there are.
    """
    images = _fixed_images(graph)
    if images < 2:
        return graph
    try:
        fixed = infer_shapes(graph, {})
        opened = graph.with_(
            inputs=tuple(Value(value.name, (_IMAGES, *value.shape[1:]), value.dtype) for value in graph.inputs),
            nodes=tuple(_opened(graph, fixed, images)),
        )
        if _means_the_same(opened, fixed, images):
            return opened
    except GraphError:
        pass  # a shape that counts the images in another way
    return graph


def _fixed_images(graph: Graph) -> int:
    """The first length of all inputs; 0 where they differ, or any length is open."""
    if any(isinstance(length, str) for value in graph.inputs for length in value.shape):
        return 0
    counts = {int(value.shape[0]) if value.shape else 0 for value in graph.inputs}
    return counts.pop() if len(counts) == 1 else 0


def _means_the_same(opened: Graph, fixed: Mapping[str, Value], images: int) -> bool:
    one = {value.name: (1, *(int(length) for length in value.shape[1:])) for value in opened.inputs}
    many = {name: (images, *shape[1:]) for name, shape in one.items()}
    return infer_shapes(opened, many) == fixed and not mixed_images(opened, one, images)


def _opened(graph: Graph, fixed: Mapping[str, Value], images: int) -> Iterator[Node]:
    for node in graph.nodes:
        shape = _written_shape(graph, node)
        if shape is None or node.inputs[0] in graph.constants or shape[0] < 1 or shape[0] % images:
            yield node
            continue
        x, y = fixed[node.inputs[0]].shape, fixed[node.output].shape
        if node.op == "expand" and (len(x), x[0]) != (len(y), y[0]):
            yield node
        else:
            # In a reshape -1 may stand for one length only: what another stood for is known.
            yield node.with_(inputs=node.inputs[:1], attrs={**node.attrs, "shape": (-1, *y[1:])})


def _written_shape(graph: Graph, node: Node) -> tuple[int, ...] | None:
    """The shape that a reshape or expand is told, where that is a constant."""
    if node.op not in ("reshape", "expand"):
        return None
    if len(node.inputs) > 1:
        array = graph.constants.get(node.inputs[1])
        return None if array is None or not array.size else tuple(int(length) for length in np.ravel(array))
    shape = node.attrs.get("shape")
    return tuple(shape) if shape else None
