"""Concrete shapes and dtypes of every value of a graph, and the same graph with nothing left that depends on a shape.

It must not guess: what does not follow from the input shapes is an error that names the node.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sepcore.errors import GraphError
from sepcore.ir.graph import Array, Graph, Value, frozen, rebuilt
from sepcore.ir.ops import operator_of
from sepcore.ir.ops.operator import Call, Tensor, shape_text
from sepcore.ir.reference import elements, evaluate

KNOWN_ELEMENTS = 1 << 14
"""Values up to this size are computed ahead where they can be: shapes are tiny, and no file may make us allocate."""


@dataclass(frozen=True)
class _Known:
    """What was found out: shape and dtype of every value, and the content of those that need no input data."""

    values: dict[str, Value]
    content: dict[str, Array]


def infer_shapes(graph: Graph, shapes: Mapping[str, Sequence[int]]) -> dict[str, Value]:
    """Shape and dtype of every value of a graph, by name.

    Parameters
    ----------
    graph : a verified graph.
    shapes : concrete shape per graph input; one whose declared shape is concrete may be left out.

    Raises
    ------
    GraphError
        If an input has another rank or length than declared, a node does not fit its inputs, an axis would be shorter
        than 1, or a shape depends on the data; the message names the input or the node.
    """
    known = _start(graph, shapes)
    for _ in _calls(graph, known):
        pass
    return known.values


def specialise(graph: Graph, shapes: Mapping[str, Sequence[int]]) -> Graph:
    """The same graph for inputs of these shapes: shape arithmetic is folded and every attribute is spelled out.

    What the nodes look like then is said in :mod:`sepcore.ir.ops`; its rows' ``static`` make them. Poolings of a whole
    map become ``reduce_mean`` or ``reduce_max`` over axes (2, 3).

    Parameters and errors are those of :func:`infer_shapes`.
    """
    known = _start(graph, shapes)
    nodes = []
    constants = dict(graph.constants)
    for call, outputs in _calls(graph, known):
        if all(value.name in known.content for value in outputs):
            constants.update((value.name, known.content[value.name]) for value in outputs)
        else:
            nodes.append(call.operator.static(call, outputs))
    inputs = tuple(known.values[value.name] for value in graph.inputs)
    return rebuilt(graph.with_(inputs=inputs), nodes, constants)


def calls(graph: Graph, shapes: Mapping[str, Sequence[int]]) -> Iterator[tuple[Call, tuple[Value, ...]]]:
    """Each node of a graph in order, as a call on concrete shapes, with its outputs; for costs and listings."""
    return _calls(graph, _start(graph, shapes))


def _start(graph: Graph, shapes: Mapping[str, Sequence[int]]) -> _Known:
    """What is known before the first node: constants, and the inputs with their symbolic axes bound."""
    values = {name: Value(name, array.shape, array.dtype) for name, array in graph.constants.items()}
    content = {name: array for name, array in graph.constants.items() if array.size <= KNOWN_ELEMENTS}
    bound: dict[str, int] = {}
    for value in graph.inputs:
        given = tuple(length for length in shapes.get(value.name, value.shape) if not isinstance(length, str))
        if value.name not in shapes and len(given) != len(value.shape):
            raise GraphError(f"{graph.name}: input {value}: expected a shape, found none")
        fits = len(given) == len(value.shape) and all(
            length >= 1 and length == (bound.setdefault(declared, length) if isinstance(declared, str) else declared)
            for declared, length in zip(value.shape, given)
        )
        for length, declared in zip(given, value.shape):
            least, most = graph.bounds.get(str(declared), (length, length))
            if fits and not least <= length <= most:
                expected = f"{declared} of {least} to {most}, for which the file was exported"
                raise GraphError(f"{graph.name}: input {value}: expected {expected}, found {length}")
        if not fits:
            lengths = "".join(f", {name} = {length}" for name, length in bound.items())
            raise GraphError(f"{graph.name}: input: expected {value}{lengths}, found {shape_text(given)}")
        values[value.name] = Value(value.name, given, value.dtype)
    return _Known(values, content)


def _calls(graph: Graph, known: _Known) -> Iterator[tuple[Call, tuple[Value, ...]]]:
    """Each node with its outputs, which are added to ``known`` on the way."""
    for node in graph.nodes:
        inputs = [known.values[name] if name else None for name in node.inputs]
        call = Call(operator_of(node), node, inputs, [known.content.get(name) for name in node.inputs])
        tensors = call.outputs()
        content = _content(call, tensors)
        for (shape, _), name in zip(tensors, node.outputs):
            if min(shape, default=1) < 1 and name not in content:
                raise call.error("output", "axes of length 1 or more", shape_text(shape))
        outputs = tuple(Value(name, shape, dtype) for name, (shape, dtype) in zip(node.outputs, tensors))
        known.values.update((value.name, value) for value in outputs)
        known.content.update(content)
        yield call, outputs


def _content(call: Call, tensors: Sequence[Tensor]) -> dict[str, Array]:
    """The outputs of a call by name, where they follow from shapes and small constants alone."""
    if not call.operator.foldable or elements(tensors) > KNOWN_ELEMENTS:
        return {}
    computable = call.node.op == "shape" or all(
        array is not None for array, value in zip(call.known, call.inputs) if value is not None
    )
    return dict(zip(call.node.outputs, map(frozen, evaluate(call, call.known, tensors)))) if computable else {}
