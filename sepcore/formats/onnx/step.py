"""One ONNX node on its way to the graph's operators: what is known of its inputs, its attributes, and what it becomes.

It must not know any ONNX operator.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite, isnan, nan
from typing import Any, Protocol

import numpy as np

from sepcore.errors import FormatError, GraphError
from sepcore.formats.onnx.model import MAX_RANK, OnnxNode, Unreadable, shown
from sepcore.ir.graph import Array, Node

MAX_SETTINGS = 1 << 10
"""Elements of a constant that says how a node works, as axes, sizes and pads do."""

_SHOWN = 300

REQUIRED: Any = object()
"""Stands for the default of an attribute that has none."""

Lengths = tuple["int | None", ...]
"""A shape; None is a length that is not known before the network runs."""

Elements = Lengths
"""The elements of a shape that is itself a value."""


@dataclass(frozen=True)
class Operand:
    """What is known of a value before the network runs.

    Attributes
    ----------
    name : of the value in the graph.
    shape : lengths of its axes; the rank is always known.
    dtype : of its elements.
    content : the elements of a constant; None for all else.
    elements : what is known of the elements of a computed shape.
    """

    name: str
    shape: Lengths
    dtype: np.dtype[Any]
    content: Array | None = None
    elements: Elements | None = None

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def floating(self) -> bool:
        """Whether the elements are floating-point numbers."""
        return self.dtype.kind == "f"

    def named(self, name: str) -> Operand:
        """The same value by another name."""
        return Operand(name, self.shape, self.dtype, self.content, self.elements)


class Lost:
    """A value of which nothing is known, because what makes it is not supported; that has been reported."""


class UnsupportedError(Exception):
    """The node is valid ONNX, but cannot be expressed; the text says why."""


class LostInputError(Exception):
    """The node cannot be looked at because one of its inputs is lost."""


class Sink(Protocol):
    """Where a step puts what it makes."""

    def fresh(self, stem: str) -> str:
        """A value or node name that nothing else has."""

    def constant(self, name: str, array: Array) -> Operand:
        """Add a constant."""

    def fold(self, node: Node, operands: Sequence[Operand | None]) -> list[Array] | None:
        """The node's outputs, where all its inputs are constants and it is cheap enough to compute them now."""

    def infer(self, node: Node, operands: Sequence[Operand | None]) -> list[Operand]:
        """What is known of the node's outputs."""


class Step:
    """A view of one node, with which the functions of ``ops`` check it and say what it becomes.

    Parameters
    ----------
    path : the file, for messages.
    node : the node.
    operands : per input what is known of it; None where it is absent.
    sink : where constants go.
    """

    def __init__(self, path: str, node: OnnxNode, operands: Sequence[Operand | Lost | None], sink: Sink) -> None:
        self.path = path
        self.node = node
        self.opset = node.opset or 0
        self.made: list[Node] = []
        self._operands = operands
        self._sink = sink
        self._read_attributes: set[str] = set()

    def error(self, what: str, expected: str, found: str) -> FormatError:
        """The error for something the node breaks of ONNX's rules."""
        return FormatError(self.path, f"node {self.node.title}, {what}", expected[:_SHOWN], found[:_SHOWN])

    # Inputs

    def has(self, position: int) -> bool:
        """Whether the input is there."""
        return position < len(self._operands) and self._operands[position] is not None

    def input(self, position: int) -> Operand:
        """The input; an error where it is absent."""
        operand = self._operands[position] if position < len(self._operands) else None
        if operand is None:
            raise self.error(f"input {position}", "a value", "none")
        if isinstance(operand, Lost):
            raise LostInputError
        return operand

    def floating(self, position: int) -> Operand:
        """The input, whose elements must be floating-point numbers."""
        operand = self.input(position)
        if not operand.floating:
            raise self.error(f"input {position}", "floating-point numbers", str(operand.dtype))
        return operand

    def optional(self, position: int) -> Operand | None:
        """The input, or None where it is absent."""
        return self.input(position) if self.has(position) else None

    def inputs(self) -> list[Operand]:
        """All inputs; none may be absent."""
        return [self.input(position) for position in range(len(self._operands))]

    def content(self, position: int, what: str) -> Array:
        """The elements of a constant input; ``what`` it is, for messages."""
        operand = self.input(position)
        if operand.content is None:
            raise UnsupportedError(f"{what} (input {position}, {shown(operand.name)}) is not a constant")
        return operand.content

    def constant_integers(self, position: int, what: str) -> tuple[int, ...]:
        """The elements of a constant integer input of at most one axis."""
        return tuple(int(item) for item in self._settings(position, what, "iu"))

    def constant_numbers(self, position: int, what: str) -> tuple[float, ...]:
        """The elements of a constant floating-point input of at most one axis."""
        return tuple(float(item) for item in self._settings(position, what, "f"))

    def _settings(self, position: int, what: str, kinds: str) -> Array:
        content = self.content(position, what)
        if content.dtype.kind not in kinds or content.ndim > 1 or content.size > MAX_SETTINGS:
            expected = f"at most {MAX_SETTINGS} {'numbers' if kinds == 'f' else 'integers'} along one axis"
            raise self.error(what, expected, f"{content.dtype}{list(content.shape)}")
        return content.reshape(-1)

    def constant_number(self, position: int, what: str) -> float:
        """The only element of a constant input."""
        content = self.content(position, what)
        number = float(content.reshape(())) if content.size == 1 else nan
        if isnan(number):
            raise self.error(what, "one number", f"{content.size} numbers" if content.size != 1 else "nan")
        return number

    # Attributes

    def _attribute(self, name: str, expected: str, default: Any, fits: Callable[[Any], bool]) -> Any:
        self._read_attributes.add(name)
        found = self.node.attributes.get(name, default)
        if found is REQUIRED:
            raise self.error(f"attribute {name!r}", expected, "none")
        if isinstance(found, Unreadable):
            raise UnsupportedError(f"attribute {name!r}: {found.reason}")
        if name in self.node.attributes and not fits(found):
            raise self.error(f"attribute {name!r}", expected, type(found).__name__)
        return found

    def integer(self, name: str, default: Any = REQUIRED) -> Any:
        """An integer attribute."""
        return self._attribute(name, "an integer", default, lambda found: isinstance(found, int))

    def flag(self, name: str, default: bool = False) -> bool:
        """An integer attribute that is 0 or 1."""
        found = self.integer(name, int(default))
        if found not in (0, 1):
            raise self.error(f"attribute {name!r}", "0 or 1", str(found))
        return bool(found)

    def integers(self, name: str, default: Any = REQUIRED) -> Any:
        """A tuple of integers."""
        return self._attribute(name, "integers", default, _all(int))

    def number(self, name: str, default: Any = REQUIRED, *, finite: bool = True) -> Any:
        """A floating-point attribute."""

        def fits(found: Any) -> bool:
            return isinstance(found, float) and (isfinite(found) or not finite)

        return self._attribute(name, "a finite number" if finite else "a number", default, fits)

    def numbers(self, name: str, default: Any = REQUIRED) -> Any:
        """A tuple of floating-point numbers."""
        return self._attribute(name, "numbers", default, _all(float))

    def text(self, name: str, default: Any = REQUIRED) -> Any:
        """A text attribute."""
        return self._attribute(name, "a text", default, lambda found: isinstance(found, str))

    def tensor(self, name: str, default: Any = REQUIRED) -> Any:
        """An array."""
        return self._attribute(name, "a tensor", default, lambda found: isinstance(found, np.ndarray))

    def ignore(self, *names: str) -> None:
        """Say that these attributes do not change what the node computes when a network is run."""
        self._read_attributes.update(names)

    def unread_attributes(self) -> list[str]:
        """Attributes that nobody asked for: what they mean has not been taken into account."""
        return [name for name in self.node.attributes if name not in self._read_attributes]

    def axis(self, given: int, rank: int) -> int:
        """``given`` as an axis 0 ... rank - 1."""
        if not -rank <= given < rank:
            raise self.error("axis", f"-{rank} ... {rank - 1}", str(given))
        return given % rank if rank else 0

    def axes(self, given: Sequence[int], rank: int) -> tuple[int, ...]:
        """``given`` as distinct axes 0 ... rank - 1, in their order."""
        axes = tuple(self.axis(axis, rank) for axis in given)
        if len(set(axes)) != len(axes):
            raise self.error("axes", "distinct ones", str(tuple(given)))
        return axes

    # What the node becomes

    def constant(self, array: Any, dtype: Any = None) -> Operand:
        """A new constant."""
        return self._sink.constant(self._sink.fresh(f"{self.node.name}/constant"), np.asarray(array, dtype))

    def emit(self, op: str, *operands: Operand | None, **attrs: Any) -> Operand:
        """Add a node of one output."""
        return self.emit_many(op, *operands, outputs=1, **attrs)[0]

    def emit_many(self, op: str, *operands: Operand | None, outputs: int, **attrs: Any) -> list[Operand]:
        """Add a node, or nothing where its outputs can be computed now."""
        while operands and operands[-1] is None:
            operands = operands[:-1]
        name = self._sink.fresh(f"{self.node.name}/{op}")
        names = tuple(f"{name}:{position}" if outputs > 1 else f"{name}:out" for position in range(outputs))
        inputs = tuple("" if operand is None else operand.name for operand in operands)
        node = Node(op, name, inputs, names, attrs, self.node.source)
        try:
            known = self._sink.infer(node, operands)
            if any(operand.rank > MAX_RANK for operand in known):
                raise UnsupportedError(f"more than {MAX_RANK} axes")
            arrays = self._sink.fold(node, operands)
        except GraphError as error:
            raise self.error("inputs", "shapes and values that fit together", str(error)) from None
        if arrays is not None:
            return [self._sink.constant(name, array) for name, array in zip(names, arrays)]
        self.made.append(node)
        return known

    def cast(self, operand: Operand, dtype: Any) -> Operand:
        """``operand`` as ``dtype``."""
        return operand if operand.dtype == dtype else self.emit("cast", operand, dtype=np.dtype(dtype))


def _all(kind: type) -> Callable[[Any], bool]:
    """Whether something is a tuple of ``kind``; protobuf does not tell empty tuples of different kinds apart."""
    return lambda found: isinstance(found, tuple) and all(isinstance(item, kind) for item in found)
