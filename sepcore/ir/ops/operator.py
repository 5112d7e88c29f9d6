"""What the graph knows of an operator: its inputs, attributes, shape rule, cost and meaning, as one table row.

It must not know any single operator; those are the rows of the other files in this package.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

import numpy as np

from sepcore.errors import GraphError
from sepcore.ir.graph import Array, Node, Value
from sepcore.ir.ops.attributes import REQUIRED, Attribute

Shape = tuple[int, ...]
Tensor = tuple[Shape, "np.dtype[Any]"]
"""What a shape rule says of one output."""


def node_error(node: Node, what: str, expected: str, found: str) -> GraphError:
    """The error for ``what`` of ``node``, which was expected to be one thing and found to be another."""
    source = f" ({node.source})" if node.source else ""
    return GraphError(f"{node.op} {node.name!r}{source}: {what}: expected {expected}, found {found}")


def shape_text(shape: Sequence[int | str]) -> str:
    """``(1, 3, 224, 224)`` as ``[1, 3, 224, 224]``, with symbolic axes by name."""
    return f"[{', '.join(map(str, shape))}]"


@dataclass(frozen=True)
class Operator:
    """One row of the operator table.

    Parameters
    ----------
    name : the operator.
    inputs : names of the inputs; ``"bias?"`` may be absent, ``"x..."`` stands for one or more.
    infer : the shape rule, from a call to shape and dtype of each output.
    compute : the meaning, from a call and its input arrays (floating ones as float64) to the output array or arrays;
        the caller rounds to the dtype that ``infer`` gave.
    attributes : allowed attributes by name.
    outputs : number of outputs; None where the attributes decide.
    macs : multiply-accumulate operations of a call, from the call and its outputs.
    foldable : whether a call whose inputs are all constants may be computed ahead. Sliding windows may not: a large
        kernel over a large padding takes long for however small an output.
    static : the node that stands for the call once all shapes are known, from the call and its outputs: every attribute
        spelled out, and nothing left that depends on a shape.
    """

    name: str
    inputs: tuple[str, ...]
    infer: Callable[[Call], Sequence[Tensor]]
    compute: Callable[..., Any]
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    outputs: int | None = 1
    macs: Callable[[Call, Sequence[Value]], int] = lambda call, outputs: 0
    foldable: bool = True
    static: Callable[[Call, Sequence[Value]], Node] = lambda call, outputs: call.spelled_out()

    @property
    def variadic(self) -> bool:
        """Whether the only input stands for one or more."""
        return self.inputs[-1].endswith("...")

    def check(self, node: Node) -> None:
        """Raise a GraphError unless ``node`` has this operator's number of inputs and outputs, and its attributes."""
        self._check_inputs(node)
        if self.outputs is not None and len(node.outputs) != self.outputs:
            raise node_error(node, "outputs", str(self.outputs), str(len(node.outputs)))
        for name in node.attrs:
            if name not in self.attributes:
                allowed = ", ".join(self.attributes) or "no attribute"
                raise node_error(node, "attributes", allowed, repr(name))
        for name in self.attributes:
            self.attribute(node, name)

    @cached_property
    def positions(self) -> Mapping[str, int]:
        """Position of each input by its name, without what marks an optional one."""
        return {name.rstrip("?"): position for position, name in enumerate(self.inputs)}

    @cached_property
    def _required(self) -> int:
        return sum(not name.endswith("?") for name in self.inputs)

    def _check_inputs(self, node: Node) -> None:
        most = len(node.inputs) if self.variadic else len(self.inputs)
        if not self._required <= len(node.inputs) <= most:
            raise node_error(node, "inputs", f"({', '.join(self.inputs)})", str(len(node.inputs)))
        for position, name in enumerate(node.inputs):
            if not name and not self.inputs[min(position, len(self.inputs) - 1)].endswith("?"):
                raise node_error(node, f"input {position}", "a value", "none")

    def attribute(self, node: Node, name: str) -> Any:
        """The checked value of an attribute, or its default."""
        attribute = self.attributes[name]
        found = node.attrs.get(name, attribute.default)
        if found is REQUIRED:
            raise node_error(node, f"attribute {name}", attribute.kind.text, "none")
        if not attribute.accepts(found):
            raise node_error(node, f"attribute {name}", attribute.kind.text, repr(found))
        return found

    def spelled_out(self, node: Node, **changes: Any) -> Node:
        """``node`` with its defaults, and then ``changes``, written into its attributes."""
        return node.with_(attrs={**{name: self.attribute(node, name) for name in self.attributes}, **changes})


MOST_AXES = 32
"""No array has more, in any numpy."""


class Call:
    """One node with what is known of its inputs: concrete shapes and dtypes, and the content of some.

    Parameters
    ----------
    operator : the row of ``node.op``.
    node : the node; its arity and attributes are checked here.
    inputs : per input, its shape and dtype; None where the input is absent.
    known : per input, its content, or None where that is not known before the network runs.

    Raises
    ------
    GraphError
        If the node does not fit the row.
    """

    def __init__(
        self, operator: Operator, node: Node, inputs: Sequence[Value | None], known: Sequence[Array | None] = ()
    ) -> None:
        operator.check(node)
        self.operator = operator
        self.node = node
        self.inputs = tuple(inputs)
        self.known = tuple(known) or (None,) * len(self.inputs)

    def error(self, what: str, expected: str, found: str) -> GraphError:
        """A GraphError that names the node."""
        return node_error(self.node, what, expected, found)

    def outputs(self) -> list[Tensor]:
        """Shape and dtype of each output, by the operator's shape rule."""
        tensors = list(self.operator.infer(self))
        for shape, _ in tensors:
            if len(shape) > MOST_AXES:
                raise self.error("output", f"at most {MOST_AXES} axes", str(len(shape)))
        return tensors

    def has(self, name: str) -> bool:
        """Whether the input ``name`` is present."""
        position = self.operator.positions[name]
        return position < len(self.inputs) and self.inputs[position] is not None

    def value(self, name: str) -> Value:
        """Shape and dtype of the input ``name``, which must be present."""
        value = self.inputs[self.operator.positions[name]]
        if value is None:
            raise self.error(f"input {name}", "a value", "none")
        return value

    def shape(self, name: str, rank: int | None = None) -> Shape:
        """Shape of the input ``name``; an error where its rank is not ``rank``."""
        shape = cast(Shape, self.value(name).shape)
        if rank is not None and len(shape) != rank:
            raise self.error(f"input {name}", f"{rank} axes", shape_text(shape))
        return shape

    def shapes(self) -> list[Shape]:
        """The shapes of all inputs that are present."""
        return [cast(Shape, value.shape) for value in self.inputs if value is not None]

    def expect_shape(self, name: str, expected: Shape) -> None:
        """Raise a GraphError unless the input ``name``, where present, has the shape ``expected``."""
        if self.has(name) and self.shape(name) != expected:
            raise self.error(f"input {name}", shape_text(expected), shape_text(self.shape(name)))

    def dtype(self, *names: str) -> np.dtype[Any]:
        """The one dtype of the inputs ``names`` (of all inputs, where none is named); absent inputs do not count."""
        chosen = (
            [self.inputs[self.operator.positions[name]] for name in names if self.has(name)] if names else self.inputs
        )
        dtypes = {value.dtype for value in chosen if value is not None}
        if len(dtypes) != 1:
            raise self.error("inputs", "one dtype", " and ".join(sorted(map(str, dtypes))))
        return dtypes.pop()

    def floating(self, *names: str) -> np.dtype[Any]:
        """As :meth:`dtype`, where only a floating one will do."""
        dtype = self.dtype(*names)
        if dtype.kind != "f":
            raise self.error("inputs", "a floating dtype", str(dtype))
        return dtype

    def integers(self, name: str) -> tuple[int, ...]:
        """The content of the integer input ``name``, which must have one axis and be known before the network runs."""
        value = self.value(name)
        if value.dtype.kind not in "iu" or len(value.shape) != 1:
            raise self.error(f"input {name}", "integers along one axis", str(value))
        content = self.known[self.operator.positions[name]]
        if content is None:
            raise self.error(f"input {name}", "a value that follows from the input shapes", f"{value.name!r}")
        return tuple(int(item) for item in content)

    def content(self, name: str) -> Array | None:
        """The content of the input ``name`` where it is known before the network runs."""
        return self.known[self.operator.positions[name]]

    def attr(self, name: str) -> Any:
        """The value of an attribute, or its default."""
        return self.operator.attribute(self.node, name)

    def axis(self, name: str, rank: int) -> int:
        """The attribute ``name`` as an axis 0 ... rank - 1; negative ones count from the end."""
        return self.axes(name, rank, (self.attr(name),))[0]

    def axes(self, name: str, rank: int, given: Sequence[int] | None = None) -> tuple[int, ...]:
        """The attribute ``name`` (or ``given``) as distinct axes 0 ... rank - 1; negative ones count from the end."""
        given = self.attr(name) if given is None else given
        axes = tuple(axis + rank if axis < 0 else axis for axis in given)
        if len(set(axes)) != len(axes) or any(not 0 <= axis < rank for axis in axes):
            raise self.error(f"attribute {name}", f"distinct axes of {rank}", str(tuple(given)))
        return axes

    def spelled_out(self, **changes: Any) -> Node:
        """The node with its defaults, and then ``changes``, written into its attributes."""
        return self.operator.spelled_out(self.node, **changes)
