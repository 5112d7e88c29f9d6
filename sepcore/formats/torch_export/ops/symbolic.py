"""Sizes of tensors and the arithmetic with them that the exporter writes down.

It must not know what the sizes are used for.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sepcore.formats.torch_export.call import AtenCall, Operand, Value
from sepcore.formats.torch_export.ops.arithmetic import Number, as_value
from sepcore.formats.torch_export.ops.lengths import as_scalar, axis_length, product_of_lengths
from sepcore.formats.torch_export.ops.row import Row, Rows
from sepcore.formats.torch_export.program import Ref

_FLOAT64 = np.dtype(np.float64)


def _size(call: AtenCall) -> Value:
    x = call.operand("self")
    return call.emit("identity", as_scalar(call, axis_length(call, x, call.axis("dim", x.rank))))


def _count(call: AtenCall) -> Value:
    """The number of elements."""
    x = call.operand("self")
    return call.emit("identity", as_scalar(call, product_of_lengths(call, x, range(x.rank))))


def _numbers(call: AtenCall) -> list[Operand | Number]:
    """All arguments: these operators are Python's, and their arguments have no fixed names."""
    found: list[Operand | Number] = []
    for name, argument in call.node.arguments.items():
        found.append(call.operand(name) if isinstance(argument, Ref) else call.number(name))
    return found


def _computed(op: str, count: int, dtype: np.dtype[Any] | None = None) -> Row:
    """An operator on symbolic numbers, in ``dtype``, else in the type of the result."""

    def row(call: AtenCall) -> Value:
        numbers = _numbers(call)
        if len(numbers) != count:
            raise call.error("arguments", str(count), str(len(numbers)))
        return call.emit(op, *(as_value(call, number, dtype or call.output.dtype) for number in numbers))

    return row


def _cast(call: AtenCall) -> Value:
    """To the type of the result; to an integer by truncation."""
    return call.emit("identity", as_value(call, _numbers(call)[0], call.output.dtype))


OPERATORS: Rows = {
    "aten.sym_size.int": _size,
    "aten.sym_numel.default": _count,
    "_operator.add": _computed("add", 2),
    "_operator.sub": _computed("sub", 2),
    "_operator.mul": _computed("mul", 2),
    "_operator.floordiv": _computed("floor_div", 2),
    "_operator.mod": _computed("mod", 2),
    "_operator.truediv": _computed("div", 2, _FLOAT64),
    "_operator.neg": _computed("neg", 1),
    "_operator.pow": _computed("pow", 2),
    "torch.sym_max": _computed("maximum", 2),
    "torch.sym_min": _computed("minimum", 2),
    "torch.sym_float": _cast,
    "math.trunc": _cast,
}
