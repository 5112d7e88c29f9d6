"""What an ONNX file says, as plain Python values: inputs, constants, outputs and nodes in topological order.

It must not know any operator, nor hand out anything of protobuf's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from typing import Any

from sepcore.errors import FormatError
from sepcore.ir.graph import Array, Value

DEFAULT_DOMAIN = ""
"""ONNX's own operators; files also spell it ``ai.onnx``."""

MAX_RANK = 16
"""Axes that a tensor may have."""

_SHOWN = 150


def shown(text: str) -> str:
    """``text`` in quotes, cut where it is long: what a file calls things may be of any length."""
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")


@dataclass(frozen=True)
class Unreadable:
    """Stands for a tensor or attribute that is well-formed but of no use here; ``reason`` says why."""

    reason: str


@dataclass(frozen=True)
class Reference:
    """An attribute in a function's body that takes the value of the function's attribute ``name``."""

    name: str


@dataclass(frozen=True)
class OnnxNode:
    """One node.

    Attributes
    ----------
    op, domain, overload : what it computes; ``domain`` is "" for ONNX's own operators.
    name : unique among the model's nodes.
    inputs, outputs : value names; "" stands for an absent optional one.
    attributes : int, float, str, an array, tuples of these, or :class:`Unreadable`.
    opset : version of the domain's operators that the node is written for; None where it does not matter.
    source : where the exporter says it comes from.
    """

    op: str
    domain: str
    overload: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    opset: int | None
    source: str

    @property
    def title(self) -> str:
        """The operator with its domain, and the node's name, for messages."""
        operator = f"{self.domain}.{self.op}" if self.domain else self.op
        return f"{operator[:_SHOWN]} {shown(self.name)}"

    def with_(self, **changes: Any) -> OnnxNode:
        """A copy with some fields replaced."""
        return replace(self, **changes)


@dataclass(frozen=True)
class Function:
    """A function that the file defines: nodes of its own that stand for one."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    defaults: Mapping[str, Any]
    nodes: tuple[OnnxNode, ...]


@dataclass(frozen=True)
class OnnxModel:
    """A whole file.

    Attributes
    ----------
    path : the file, for messages.
    name : of the graph.
    inputs : graph inputs that no constant stands for, by name; unnamed axes get a name.
    constants : initialisers.
    outputs : value names.
    nodes : in any order.
    functions : by domain, name and overload.
    """

    path: str
    name: str
    inputs: Mapping[str, Value | Unreadable]
    constants: Mapping[str, Array | Unreadable]
    outputs: tuple[str, ...]
    nodes: tuple[OnnxNode, ...]
    functions: Mapping[tuple[str, str, str], Function]


def in_order(path: str, nodes: tuple[OnnxNode, ...], given: set[str]) -> tuple[OnnxNode, ...]:
    """``nodes`` so that every value is made before it is read; those that already are keep their places.

    Parameters
    ----------
    path : for messages.
    nodes : what to sort.
    given : names of the values that no node makes.

    Raises
    ------
    FormatError
        If a value is made twice or never, or nodes wait for each other.
    """
    makers = _makers(path, nodes, given)
    waiting: list[set[int]] = []
    readers: dict[int, list[int]] = {}
    for position, node in enumerate(nodes):
        for name in node.inputs:
            if name and name not in makers and name not in given:
                raise FormatError(path, f"node {node.title}", "inputs that something makes", shown(name))
        waiting.append({makers[name] for name in node.inputs if name in makers})
        for maker in waiting[position]:
            readers.setdefault(maker, []).append(position)
    ordered: list[OnnxNode] = []
    ready = [position for position in range(len(nodes)) if not waiting[position]]
    while ready:
        position = heappop(ready)
        ordered.append(nodes[position])
        for reader in readers.get(position, ()):
            waiting[reader].discard(position)
            if not waiting[reader]:
                heappush(ready, reader)
    if len(ordered) < len(nodes):
        stuck = next(node for node, pending in zip(nodes, waiting) if pending)
        raise FormatError(path, f"node {stuck.title}", "a graph without cycles", "inputs that depend on themselves")
    return tuple(ordered)


def _makers(path: str, nodes: tuple[OnnxNode, ...], given: set[str]) -> dict[str, int]:
    """The position of the node that makes each value."""
    makers: dict[str, int] = {}
    for position, node in enumerate(nodes):
        for name in node.outputs:
            if name in makers or name in given:
                raise FormatError(path, f"node {node.title}", "outputs of a name of their own", f"{shown(name)} twice")
            if name:
                makers[name] = position
    return makers
