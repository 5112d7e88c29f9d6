"""A slow and obvious interpreter of graphs, which says what a graph means; kernels and passes are held against it.

It must not be fast, nor share a line with what it is the measure of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

import numpy as np

from sepcore.errors import GraphError
from sepcore.ir.graph import Array, Graph, Node, Value
from sepcore.ir.ops import operator_of
from sepcore.ir.ops.operator import Call, Tensor


def called(node: Node, inputs: Sequence[Array | None]) -> Call:
    """``node`` called on arrays; an absent optional input is None."""
    values = [None if a is None else Value(name, a.shape, a.dtype) for name, a in zip(node.inputs, inputs)]
    return Call(operator_of(node), node, values, inputs)


def evaluate(call: Call, inputs: Sequence[Array | None], outputs: Sequence[Tensor]) -> list[Array]:
    """The outputs of one node: computed in float64 and rounded once to the dtype that the shape rule gives.

    Parameters
    ----------
    call : the node, with the shapes and dtypes of its inputs.
    inputs : its input arrays; None where an optional one is absent.
    outputs : what the shape rule says of the outputs.

    Raises
    ------
    GraphError
        If an array is not of the shape that the shape rule gave.
    """
    wide = [a.astype(np.float64) if a is not None and a.dtype.kind == "f" else a for a in inputs]
    with np.errstate(all="ignore"):
        made = call.operator.compute(call, *wide)
        arrays = list(made) if isinstance(made, (list, tuple)) else [made]
        arrays = [np.asarray(array).astype(dtype) for array, (_, dtype) in zip(arrays, outputs)]
    for array, (shape, _) in zip(arrays, outputs):
        if array.shape != shape:
            raise call.error("output", str(shape), str(array.shape))
    return arrays


def elements(tensors: Sequence[Tensor]) -> int:
    """Elements of the largest of the outputs; axes without length do not make the others harmless."""
    return max((prod(max(length, 1) for length in shape) for shape, _ in tensors), default=0)


def run_reference(graph: Graph, inputs: Mapping[str, Array], outputs: Sequence[str] | None = None) -> list[Array]:
    """Run a graph with numpy.

    Parameters
    ----------
    graph : what to run.
    inputs : an array per graph input, of its dtype; axes of a declared length must have that length.
    outputs : names of the values wanted, made anywhere in the graph; the graph's outputs where None.

    Returns
    -------
    One array per wanted value.

    Raises
    ------
    GraphError
        If the graph or its inputs break the rules of the operators.
    """
    wanted = graph.outputs if outputs is None else tuple(outputs)
    arrays: dict[str, Array] = dict(graph.constants)
    for value in graph.inputs:
        if value.name not in inputs:
            raise GraphError(f"{graph.name}: input {value.name!r}: expected an array, found none")
        array = np.asarray(inputs[value.name])
        fits = len(array.shape) == len(value.shape) and all(
            isinstance(declared, str) or declared == length for declared, length in zip(value.shape, array.shape)
        )
        if array.dtype != value.dtype or not fits:
            raise GraphError(f"{graph.name}: input: expected {value}, found {array.dtype}{list(array.shape)}")
        arrays[value.name] = array
    last_reader = {name: position for position, node in enumerate(graph.nodes) for name in node.inputs}
    for position, node in enumerate(graph.nodes):
        given = [arrays[name] if name else None for name in node.inputs]
        call = called(node, given)
        arrays.update(zip(node.outputs, evaluate(call, given, call.outputs())))
        for name in set(node.inputs):
            if last_reader[name] == position and name not in wanted:
                arrays.pop(name, None)
    missing = [name for name in wanted if name not in arrays]
    if missing:
        raise GraphError(f"{graph.name}: output: expected a value of the graph, found {missing[0]!r}")
    return [arrays[name] for name in wanted]
