"""The intermediate graph: values, nodes and constants of one network, in PyTorch's NCHW terms.

It must not know files, kernels or memory layouts. A graph is immutable; a pass takes one and returns another.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

Dim = int | str
"""One axis length: a number, or the name of a symbolic length such as ``"n"``."""

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Value:
    """A named tensor: shape (axes may be symbolic) and dtype."""

    name: str
    shape: tuple[Dim, ...]
    dtype: np.dtype[Any] = field(default_factory=lambda: np.dtype(np.float32))

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype}[{', '.join(map(str, self.shape))}]"


@dataclass(frozen=True, slots=True)
class Node:
    """One operation. ``inputs`` and ``outputs`` are value names; "" stands for an absent optional input.

    ``source`` is where the exporter says the operation came from (a module path or a source line), for messages only.
    """

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""

    @property
    def output(self) -> str:
        """The only output; an error where there are several."""
        (name,) = self.outputs
        return name

    def with_(self, **changes: Any) -> Node:
        """A copy with some fields replaced."""
        return replace(self, **changes)

    def with_attrs(self, **attrs: Any) -> Node:
        """A copy with some attributes added or replaced."""
        return replace(self, attrs={**self.attrs, **attrs})


@dataclass(frozen=True)
class Graph:
    """A network: nodes in topological order, constants by value name (read-only arrays).

    ``bounds`` are the least and the greatest number that a symbolic length of an input may be, where its exporter has
    followed one of several ways that the network may take: for other lengths the graph would mean something else.
    """

    name: str
    inputs: tuple[Value, ...]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    constants: Mapping[str, Array]
    bounds: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def with_(self, **changes: Any) -> Graph:
        """A copy with some fields replaced."""
        return replace(self, **changes)

    def consumers(self) -> dict[str, list[Node]]:
        """The nodes that read each value."""
        found: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                if name:
                    found.setdefault(name, []).append(node)
        return found

    def producers(self) -> dict[str, Node]:
        """The node that makes each value."""
        return {name: node for node in self.nodes for name in node.outputs}


def named(node: Node) -> str:
    """A node in a message: operator, name, and where it comes from."""
    return f"{node.op} {node.name!r}{f' ({node.source})' if node.source else ''}"


def frozen(array: Array) -> Array:
    """A read-only, C-contiguous view or copy of ``array``."""
    array = np.ascontiguousarray(array).reshape(array.shape)
    array = array.view()
    array.flags.writeable = False
    return array


def rebuilt(graph: Graph, nodes: Iterable[Node], constants: Mapping[str, Array] | None = None) -> Graph:
    """``graph`` with other nodes (and constants), without nodes and constants that no output depends on."""
    kept: list[Node] = []
    needed = set(graph.outputs)
    for node in reversed(list(nodes)):
        if needed.intersection(node.outputs):
            kept.append(node)
            needed.update(name for name in node.inputs if name)
    constants = graph.constants if constants is None else constants
    live = {name: array for name, array in constants.items() if name in needed}
    return graph.with_(nodes=tuple(reversed(kept)), constants=MappingProxyType(live))


def renamed(nodes: Iterable[Node], names: Mapping[str, str]) -> Iterator[Node]:
    """``nodes`` with input values renamed; chains in ``names`` are followed."""

    def resolve(name: str) -> str:
        while name in names:
            name = names[name]
        return name

    for node in nodes:
        yield node.with_(inputs=tuple(resolve(name) for name in node.inputs))


class GraphBuilder:
    """Collects nodes in order and makes a :class:`Graph`; used by the model families and the file readers.

    Every method that adds an operation returns the name of its output value.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._inputs: list[Value] = []
        self._nodes: list[Node] = []
        self._constants: dict[str, Array] = {}
        self._taken: set[str] = set()
        self.scope = ""
        """Recorded as ``source`` of the nodes that follow."""

    def unique(self, stem: str) -> str:
        """A value or node name that is not taken yet."""
        name, count = stem, 1
        while name in self._taken:
            count += 1
            name = f"{stem}_{count}"
        self._taken.add(name)
        return name

    def input(self, name: str, shape: Sequence[Dim], dtype: Any = np.float32) -> str:
        """Declare a graph input."""
        name = self.unique(name)
        self._inputs.append(Value(name, tuple(shape), np.dtype(dtype)))
        return name

    def constant(self, name: str, array: Array) -> str:
        """Add a constant; the name is made unique."""
        name = self.unique(name)
        self._constants[name] = frozen(np.asarray(array))
        return name

    def add(self, op: str, inputs: Sequence[str], name: str = "", **attrs: Any) -> str:
        """Add an operation with one output."""
        return self.add_multi(op, inputs, 1, name, **attrs)[0]

    def add_multi(self, op: str, inputs: Sequence[str], outputs: int, name: str = "", **attrs: Any) -> tuple[str, ...]:
        """Add an operation with ``outputs`` outputs."""
        name = self.unique(name or op)
        made = tuple(self.unique(f"{name}:{i}" if outputs > 1 else f"{name}:out") for i in range(outputs))
        self._nodes.append(Node(op, name, tuple(inputs), made, dict(attrs), self.scope))
        return made

    def build(self, outputs: Sequence[str]) -> Graph:
        """The finished graph; nodes that no output depends on are left out."""
        graph = Graph(self._name, tuple(self._inputs), tuple(outputs), (), MappingProxyType(self._constants))
        return rebuilt(graph, self._nodes)
