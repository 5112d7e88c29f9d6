"""Takes apart what holds several maps of one image, as windows of attention or parts of a batch that meets do.

It must not touch more maps than a plan bears steps for, nor what no layer of maps reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sepcore.ir.graph import Dim, Graph, Node
from sepcore.ir.infer import infer_shapes
from sepcore.ir.ops.activation import OPERATORS as ACTIVATIONS
from sepcore.passes.rewrite import Rewrite

Shape = tuple[Dim, ...]

MOST_MAPS = 64

_OF_MAPS = frozenset(
    {"conv2d", "conv_transpose2d", "max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d", "resize"}
)
_LIKEWISE = frozenset({row.name for row in ACTIVATIONS} | {"add", "sub", "mul", "div", "identity", "pad"})
"""Done map by map as well where all that they read is taken apart already, so that maps are not joined in between."""


def separate_maps(graph: Graph) -> Graph:
    """Make a layer of several maps of a specialised graph one layer per map, and join their outputs for others."""
    if not any(node.op in _OF_MAPS or node.op == "pad" for node in graph.nodes):
        return graph
    values = infer_shapes(graph, {})
    shapes = {name: value.shape for name, value in values.items()}
    if not any(_separates(node, shapes) for node in graph.nodes):
        return graph
    rewrite = Rewrite(graph)
    nodes: list[Node] = []
    maps: dict[str, list[str]] = {}
    for node in graph.nodes:
        if _separates(node, shapes):
            x = node.inputs[0]
            if x not in maps:
                maps[x] = [rewrite.new_name(f"{x}/map{i}") for i in range(int(shapes[x][0]))]
                nodes.append(Node("split", maps[x][0], (x,), tuple(maps[x]), _ones(len(maps[x])), node.source))
            given: Sequence[Sequence[str]] = [(each, *node.inputs[1:]) for each in maps[x]]
        elif _goes_along(node, maps, shapes):
            given = list(zip(*(maps.get(name, [name] * len(maps[node.inputs[0]])) for name in node.inputs)))
        else:
            nodes.append(node)
            continue
        made = [rewrite.new_name(f"{node.name}/map{i}") for i in range(len(given))]
        nodes += [node.with_(name=name, inputs=tuple(inputs), outputs=(name,)) for name, inputs in zip(made, given)]
        nodes.append(Node("concat", node.name, tuple(made), node.outputs, {"axis": 0}, node.source))
        maps[node.output] = made
    return rewrite.finish(nodes)


def _ones(count: int) -> dict[str, Any]:
    return {"axis": 0, "sizes": (1,) * count}


def _separates(node: Node, shapes: Mapping[str, Shape]) -> bool:
    if node.op not in _OF_MAPS and not (node.op == "pad" and node.attrs["mode"] != "constant" and _inside(node)):
        return False
    shape = shapes[node.inputs[0]]
    return len(shape) == 4 and 1 < int(shape[0]) <= MOST_MAPS


def _goes_along(node: Node, maps: Mapping[str, Sequence[str]], shapes: Mapping[str, Shape]) -> bool:
    """Whether each map of the output depends on the maps of the same number alone, all of which are there."""
    if node.op not in _LIKEWISE or node.inputs[0] not in maps or (node.op == "pad" and not _inside(node)):
        return False
    rank, others = len(shapes[node.output]), [name for name in node.inputs if name not in maps]
    return len(maps[node.inputs[0]]) == shapes[node.output][0] and all(
        len(shapes[name]) < rank or shapes[name][0] == 1 for name in others
    )


def _inside(node: Node) -> bool:
    """Whether a pad adds pixels, and no maps or channels."""
    return not any(map(any, node.attrs["pads"][:2]))
