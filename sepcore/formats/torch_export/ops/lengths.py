"""Shapes with lengths that are known only when the network runs.

It must not know what they are the shape of.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from math import prod

from sepcore.formats.torch_export.call import INT64, AtenCall, Operand, UnsupportedError, Value

Length = int | Value
"""A number, or a value of the graph without axes."""


def vector(call: AtenCall, lengths: Sequence[Length]) -> str:
    """The lengths as integers along one axis."""
    numbers = _numbers(lengths)
    if numbers is not None:
        return call.constant(numbers, INT64)
    parts = [
        call.constant((length,), INT64) if isinstance(length, int) else call.emit("unsqueeze", length, axes=(0,))
        for length in lengths
    ]
    return call.emit("concat", *parts, axis=0) if len(parts) > 1 else parts[0]


def _numbers(lengths: Sequence[Length]) -> tuple[int, ...] | None:
    numbers = tuple(length for length in lengths if isinstance(length, int))
    return numbers if len(numbers) == len(lengths) else None


def reshaped(call: AtenCall, x: Value, lengths: Sequence[Length]) -> str:
    """``x`` with other axes; -1 stands for the rest."""
    numbers = tuple(length if isinstance(length, int) else -1 for length in lengths)
    if 0 in numbers:
        raise UnsupportedError(f"a shape without elements, {numbers}")
    if numbers.count(-1) < 2:
        return call.emit("reshape", x, shape=numbers)
    return call.emit("reshape", x, vector(call, lengths))


def expanded(call: AtenCall, x: Value, lengths: Sequence[Length]) -> str:
    """``x`` broadcast to a shape; -1 keeps the length that it has."""
    numbers = _numbers(lengths)
    if numbers is not None:
        return call.emit("expand", x, shape=numbers)
    return call.emit("expand", x, vector(call, lengths))


def axis_length(call: AtenCall, x: Operand, axis: int) -> Length:
    """The length of an axis: a number where the file has one."""
    length = x.shape[axis]
    if isinstance(length, int):
        return length
    return call.emit("gather", call.emit("shape", x), call.constant(axis, INT64))


def known_length(x: Operand, axis: int) -> int:
    """The length of an axis that must not depend on the input."""
    length = x.shape[axis]
    if isinstance(length, str):
        raise UnsupportedError(f"axis {axis} has a length ({length}) that depends on the input")
    return length


def as_scalar(call: AtenCall, length: Length) -> Value:
    """A length as a value without axes."""
    return call.constant(length, INT64) if isinstance(length, int) else length


def product_of_lengths(call: AtenCall, x: Operand, axes: Sequence[int]) -> Length:
    """The number of elements along some axes."""
    lengths = [axis_length(call, x, axis) for axis in axes]
    numbers = _numbers(lengths)
    if numbers is not None:
        return prod(numbers)
    return reduce(lambda a, b: call.emit("mul", a, b), (as_scalar(call, length) for length in lengths))


def scaled_length(call: AtenCall, length: Length, op: str, number: int) -> Length:
    """``length`` times a number (``mul``), or divided by it (``floor_div``)."""
    if isinstance(length, int):
        return length * number if op == "mul" else length // number
    return call.emit(op, length, call.constant(number, INT64))
