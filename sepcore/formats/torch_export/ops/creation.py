"""Tensors made of nothing but a shape and a number; none is made while a file is read.

It must not know random numbers.
"""

from __future__ import annotations

from sepcore.formats.torch_export.call import AtenCall, Operand, UnsupportedError, Value
from sepcore.formats.torch_export.ops.arithmetic import as_value, operand_or_number
from sepcore.formats.torch_export.ops.lengths import expanded, vector
from sepcore.formats.torch_export.ops.row import Row, Rows

_MOST_CLASSES = 1 << 16


def _filled(call: AtenCall, shape: Value, value: float) -> Value:
    return call.emit("constant_of_shape", shape, value=float(value), dtype=call.output.dtype)


def _of_size(value: float | None) -> Row:
    """A tensor of a given size; the number is an argument where it is None here."""

    def row(call: AtenCall) -> Value:
        number = operand_or_number(call, "fill_value") if value is None else value
        lengths = call.lengths("size")
        if isinstance(number, Operand):
            return expanded(call, call.cast(number, call.output.dtype), lengths)
        if not lengths:
            return call.emit("identity", call.constant(number, call.output.dtype))
        return _filled(call, vector(call, lengths), number)

    return row


def _like(value: float | None) -> Row:
    def row(call: AtenCall) -> Value:
        number = call.number("fill_value") if value is None else value
        return _filled(call, call.emit("shape", call.operand("self")), number)

    return row


def _scalar(call: AtenCall) -> Value:
    return call.emit("identity", as_value(call, operand_or_number(call, "s"), call.output.dtype))


def _arange(call: AtenCall) -> Value:
    dtype = call.output.dtype
    if dtype.kind not in "if":
        raise UnsupportedError(f"a range of {dtype}")
    start = operand_or_number(call, "start") if call.given("start") else 0
    step = operand_or_number(call, "step") if call.given("step") else 1
    if not isinstance(step, Operand) and step == 0:
        raise call.error("argument 'step'", "a number other than 0", "0")
    bounds = (start, operand_or_number(call, "end"), step)
    return call.emit("range", *(as_value(call, bound, dtype) for bound in bounds))


def _one_hot(call: AtenCall) -> Value:
    """One where the new last axis counts what the index says."""
    index, count = call.operand("self"), call.integer("num_classes", -1)
    if not 1 <= count <= _MOST_CLASSES:
        raise UnsupportedError(f"{count} classes; a number of 1 to {_MOST_CLASSES} must be given")
    numbers = call.constant(range(count), index.dtype)
    equal = call.emit("equal", call.emit("unsqueeze", index, axes=(index.rank,)), numbers)
    return call.emit("cast", equal, dtype=call.output.dtype)


OPERATORS: Rows = {
    "aten.full.default": _of_size(None),
    "aten.zeros.default": _of_size(0.0),
    "aten.ones.default": _of_size(1.0),
    "aten.new_full.default": _of_size(None),
    "aten.new_zeros.default": _of_size(0.0),
    "aten.new_ones.default": _of_size(1.0),
    "aten.full_like.default": _like(None),
    "aten.zeros_like.default": _like(0.0),
    "aten.ones_like.default": _like(1.0),
    "aten.one_hot.default": _one_hot,
    "aten.scalar_tensor.default": _scalar,
    "aten.arange.default": _arange,
    "aten.arange.start": _arange,
    "aten.arange.start_step": _arange,
}
