"""One ATen node on its way to the graph's operators: its arguments, what is known of its tensors, and what it becomes.

It must not know any ATen operator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from sepcore.errors import FormatError
from sepcore.formats.pickle_vm import shown
from sepcore.formats.torch_export.fields import MAX_SHOWN
from sepcore.formats.torch_export.program import Argument, AtenNode, Ref, ScalarType
from sepcore.ir.graph import Array, Dim, Node

REQUIRED: Any = object()
"""Stands for the default of an argument that has none."""

INT64 = np.dtype(np.int64)
BOOL = np.dtype(np.bool_)

GRAPH_DTYPES: Mapping[str, np.dtype[Any]] = {
    "float16": np.dtype(np.float32),
    "bfloat16": np.dtype(np.float32),
    "float32": np.dtype(np.float32),
    "float64": np.dtype(np.float64),
    "int64": INT64,
    "int32": np.dtype(np.int32),
    "int8": np.dtype(np.int8),
    "uint8": np.dtype(np.uint8),
    "bool": BOOL,
}
"""PyTorch's element types that a graph can have; half precision is computed in float32."""


class UnsupportedError(Exception):
    """The node is well-formed, but cannot be expressed; the text says why."""


@dataclass(frozen=True, slots=True)
class Operand:
    """A value of the graph that the file names, with what the file declares of it.

    Attributes
    ----------
    name : of the value in the graph.
    shape : lengths of its axes.
    dtype : of its elements, in the graph.
    length : the length that it is, where it is a symbolic number.
    strides : distance in memory, in elements, between neighbours along each axis.
    """

    name: str
    shape: tuple[Dim, ...]
    dtype: np.dtype[Any]
    length: Dim | None = None
    strides: tuple[Dim, ...] = ()

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.shape)


Value = Operand | str
"""An operand, or the name of a value that the node at hand has made."""


class Names(Protocol):
    """Where a call finds operands and names."""

    def operand(self, call: AtenCall, argument: str, ref: Ref) -> Operand:
        """The value that ``ref`` names in the file; an error where there is none before the node."""

    def fresh(self, stem: str) -> str:
        """A value or node name that nothing else has."""

    def constant(self, name: str, array: Array) -> None:
        """Add a constant."""


class AtenCall:
    """A view of one node, with which the functions of ``ops`` check it and say what it becomes.

    Parameters
    ----------
    path : the file, for messages.
    node : the node.
    outputs : what the file declares of its outputs; None where nothing.
    names : where operands and names come from.
    """

    def __init__(self, path: str, node: AtenNode, outputs: Sequence[Operand | None], names: Names) -> None:
        self.path = path
        self.node = node
        self.made: list[Node] = []
        self._outputs = outputs
        self._names = names

    def error(self, what: str, expected: str, found: str) -> FormatError:
        """The error for something that breaks the rules of the operator."""
        where = f"node '{brief(self.node.name)}' ({brief(self.node.target)}), {what}"
        return FormatError(self.path, where, brief(expected), brief(found))

    # Arguments

    def given(self, name: str) -> bool:
        """Whether the argument is there and not None."""
        return self.node.arguments.get(name) is not None

    def _argument(self, name: str, expected: str, default: Any, fits: Callable[[Any], bool]) -> Any:
        found = self.node.arguments.get(name)
        if found is None:
            if default is REQUIRED:
                raise self.error(f"argument '{name}'", expected, "none")
            return default
        if not fits(found):
            if isinstance(found, Ref) or (isinstance(found, tuple) and any(isinstance(item, Ref) for item in found)):
                raise UnsupportedError(f"argument '{name}' depends on the input's size or content")
            raise self.error(f"argument '{name}'", expected, shown(found))
        return found

    def raw(self, name: str) -> Argument:
        """The argument as the file has it; None where it is missing."""
        return self.node.arguments.get(name)

    def operand(self, name: str) -> Operand:
        """The tensor given as an argument."""
        found = self.node.arguments.get(name)
        if not isinstance(found, Ref):
            raise self.error(f"argument '{name}'", "a tensor", shown(found))
        return self._names.operand(self, name, found)

    def optional(self, name: str) -> Operand | None:
        """The tensor given as an argument, or None."""
        return self.operand(name) if self.given(name) else None

    def operands(self, name: str) -> list[Operand | None]:
        """A list of tensors, some of which may be None."""
        found = self.node.arguments.get(name)
        if not isinstance(found, tuple) or not all(item is None or isinstance(item, Ref) for item in found):
            raise self.error(f"argument '{name}'", "a list of tensors", shown(found))
        return [None if item is None else self._names.operand(self, name, item) for item in found]

    def integer(self, name: str, default: Any = REQUIRED) -> Any:
        """An integer known in advance."""
        return self._argument(name, "an integer", default, lambda found: type(found) is int)

    def flag(self, name: str, default: bool = False) -> bool:
        """True or False."""
        found: bool = self._argument(name, "true or false", default, lambda found: isinstance(found, bool))
        return found

    def number(self, name: str, default: Any = REQUIRED) -> Any:
        """An integer or floating-point number known in advance; a truth value counts as 0 or 1."""
        return self._argument(name, "a number", default, lambda found: isinstance(found, (int, float)))

    def text(self, name: str, default: Any = REQUIRED) -> Any:
        """A word."""
        return self._argument(name, "a text", default, lambda found: isinstance(found, str))

    def integers(self, name: str, default: Any = REQUIRED) -> Any:
        """A tuple of integers known in advance."""
        return self._argument(
            name, "integers", default, lambda found: isinstance(found, tuple) and all(type(i) is int for i in found)
        )

    def pair(self, name: str, default: Any = REQUIRED) -> tuple[int, int]:
        """Two integers (y, x); one counts for both, an empty list is the default."""
        found = self.integers(name, default) or default
        if found is REQUIRED or len(found) not in (1, 2):
            raise self.error(f"argument '{name}'", "two integers (y, x)", shown(found))
        return (found[0], found[-1])

    def lengths(self, name: str) -> tuple[int | Operand, ...]:
        """A list of integers, some of which may be values of the graph."""
        found = self.node.arguments.get(name)
        if not isinstance(found, tuple) or not all(type(item) is int or isinstance(item, Ref) for item in found):
            raise self.error(f"argument '{name}'", "integers", shown(found))
        return tuple(item if type(item) is int else self._names.operand(self, name, item) for item in found)

    def length(self, name: str, default: Any = REQUIRED) -> int | Operand:
        """An integer, which may be a value of the graph."""
        found = self.node.arguments.get(name)
        if isinstance(found, Ref):
            return self._names.operand(self, name, found)
        number: int = self.integer(name, default)
        return number

    def dtype(self, name: str = "dtype") -> np.dtype[Any] | None:
        """The element type given as an argument, as the graph's; None where there is none."""
        found = self._argument(name, "an element type", None, lambda found: isinstance(found, ScalarType))
        return None if found is None else graph_dtype(found.name)

    def axis(self, name: str, rank: int, default: Any = REQUIRED) -> int:
        """An integer as an axis 0 ... rank - 1."""
        return self.checked_axis(self.integer(name, default), rank)

    def axes(self, name: str, rank: int) -> tuple[int, ...]:
        """Integers as distinct axes 0 ... rank - 1; all axes where there are none."""
        found = self.node.arguments.get(name)
        given = (found,) if type(found) is int else self.integers(name, ())
        axes = tuple(self.checked_axis(axis, rank) for axis in given) or tuple(range(rank))
        if len(set(axes)) != len(axes):
            raise self.error(f"argument '{name}'", "distinct axes", str(given))
        return axes

    def checked_axis(self, axis: int, rank: int) -> int:
        """``axis`` counted from the front."""
        if not -max(rank, 1) <= axis < max(rank, 1):
            raise self.error("axis", f"-{rank} ... {rank - 1}", str(axis))
        return axis + rank if axis < 0 else axis

    @property
    def output(self) -> Operand:
        """What the file declares of the first output."""
        found = self._outputs[0] if self._outputs else None
        if found is None:
            raise self.error("output", "a tensor or number with its type", "none")
        return found

    @property
    def output_count(self) -> int:
        """Number of outputs."""
        return len(self._outputs)

    # What the node becomes

    def constant(self, array: Any, dtype: Any = None) -> str:
        """A new constant."""
        try:
            made = np.asarray(array, dtype)
        except (OverflowError, ValueError):
            raise self.error("a number", f"one that {dtype} can hold", str(array)[:80]) from None
        name = self._names.fresh(f"{self.node.name}/constant")
        self._names.constant(name, made)
        return name

    def emit(self, op: str, *operands: Value | None, **attrs: Any) -> str:
        """Add a node of one output."""
        return self.emit_many(op, *operands, outputs=1, **attrs)[0]

    def emit_many(self, op: str, *operands: Value | None, outputs: int, **attrs: Any) -> tuple[str, ...]:
        """Add a node."""
        inputs = ["" if operand is None else value_name(operand) for operand in operands]
        while inputs and not inputs[-1]:
            inputs.pop()
        name = self._names.fresh(f"{self.node.name}/{op}")
        made = tuple(f"{name}:{position}" if outputs > 1 else f"{name}:out" for position in range(outputs))
        self.made.append(Node(op, name, tuple(inputs), made, attrs, self.node.source))
        return made

    def cast(self, operand: Operand, dtype: np.dtype[Any]) -> Value:
        """``operand`` as ``dtype``."""
        return operand if operand.dtype == dtype else self.emit("cast", operand, dtype=dtype)


def brief(text: str) -> str:
    """What a file says, as far as a message has room for it."""
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "…"


def value_name(value: Value) -> str:
    """The name of a value in the graph."""
    return value if isinstance(value, str) else value.name


def graph_dtype(name: str) -> np.dtype[Any]:
    """The graph's element type for PyTorch's."""
    if name not in GRAPH_DTYPES:
        raise UnsupportedError(f"elements of type {name}")
    return GRAPH_DTYPES[name]
