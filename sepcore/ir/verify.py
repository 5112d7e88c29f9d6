"""The rules every graph keeps, checked: after reading, and in tests after every pass.

It must not know shapes; what depends on them is checked by shape inference.
"""

from __future__ import annotations

import numpy as np

from sepcore.errors import GraphError
from sepcore.ir.graph import Graph
from sepcore.ir.ops import operator_of
from sepcore.ir.ops.operator import MOST_AXES, node_error

_CONSTANT_DTYPES = frozenset(
    np.dtype(t) for t in (np.bool_, np.uint8, np.int8, np.int32, np.int64, np.float32, np.float64)
)


def verify(graph: Graph) -> None:
    """Check that a graph keeps the rules.

    Every value is made once, and before it is read; node names are unique; operators exist, with their number of inputs
    and outputs and their attributes; constants are read-only arrays of a dtype that the graph knows; the graph's
    outputs exist.

    Raises
    ------
    GraphError
        For the first rule that is broken; names the node or value, what was expected and what was found.
    """
    made = _given(graph)
    names: set[str] = set()
    for node in graph.nodes:
        if node.name in names:
            raise node_error(node, "name", "a name of its own", "a name that another node has")
        names.add(node.name)
        operator_of(node).check(node)
        for name in node.inputs:
            if name and name not in made:
                raise node_error(node, "inputs", "values made before", repr(name))
        for name in node.outputs:
            if not name or name in made:
                raise node_error(node, "outputs", "values made once", repr(name))
            made.add(name)
    for name in graph.outputs:
        if name not in made:
            raise GraphError(f"{graph.name}: output: expected a value of the graph, found {name!r}")
    if not graph.outputs:
        raise GraphError(f"{graph.name}: outputs: expected at least one, found none")


def _given(graph: Graph) -> set[str]:
    """Names of the constants and inputs, checked."""
    given: set[str] = set()
    for name, array in graph.constants.items():
        if not isinstance(array, np.ndarray) or array.dtype not in _CONSTANT_DTYPES:
            found = str(array.dtype) if isinstance(array, np.ndarray) else type(array).__name__
            expected = ", ".join(sorted(map(str, _CONSTANT_DTYPES)))
            raise GraphError(f"{graph.name}: constant {name!r}: expected an array of {expected}, found {found}")
        if array.flags.writeable:
            raise GraphError(f"{graph.name}: constant {name!r}: expected a read-only array, found a writeable one")
        given.add(name)
    for value in graph.inputs:
        if not value.name or value.name in given:
            raise GraphError(f"{graph.name}: input {value}: expected a name of its own, found one that is taken")
        if any(isinstance(length, int) and length < 1 for length in value.shape):
            raise GraphError(f"{graph.name}: input {value}: expected axes of length 1 or more")
        if len(value.shape) > MOST_AXES:
            raise GraphError(f"{graph.name}: input {value.name!r}: expected at most {MOST_AXES} axes")
        given.add(value.name)
    return given
