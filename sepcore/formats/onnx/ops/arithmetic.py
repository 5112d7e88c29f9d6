"""Element-by-element arithmetic, comparisons and choice.

It must not know what is computed with them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

from sepcore.formats.onnx.ops.activation import plain
from sepcore.formats.onnx.ops.row import MANY, Row
from sepcore.formats.onnx.step import Operand, Step

_UNARY = {
    "Abs": "abs",
    "Ceil": "ceil",
    "Cos": "cos",
    "Erf": "erf",
    "Exp": "exp",
    "Floor": "floor",
    "Log": "log",
    "Neg": "neg",
    "Reciprocal": "reciprocal",
    "Round": "round",
    "Sign": "sign",
    "Sin": "sin",
    "Sqrt": "sqrt",
}
_BINARY = {
    "Add": "add",
    "Sub": "sub",
    "Mul": "mul",
    "Div": "div",
    "Less": "less",
    "LessOrEqual": "less_equal",
    "Greater": "greater",
    "GreaterOrEqual": "greater_equal",
}
_LOGICAL = {"And": "logical_and", "Or": "logical_or", "Xor": "not_equal", "Equal": "equal"}


def _numbers(step: Step) -> list[Operand]:
    """The inputs, none of which may be truth values."""
    operands = step.inputs()
    if any(operand.dtype.kind == "b" for operand in operands):
        raise step.error("inputs", "numbers", "truth values")
    return operands


def _numeric(op: str) -> Callable[[Step], Operand]:
    return lambda step: step.emit(op, *_numbers(step))


def _pow(step: Step) -> Operand:
    """The result has the base's type, whatever the exponent's."""
    base, exponent = _numbers(step)
    return step.emit("pow", base, step.cast(exponent, base.dtype))


def _mod(step: Step) -> Operand:
    """The sign is the divisor's; with ``fmod`` the dividend's, as in C."""
    a, b = _numbers(step)
    if not step.flag("fmod"):
        return step.emit("mod", a, b)
    return step.emit("mul", step.emit("sign", a), step.emit("mod", step.emit("abs", a), step.emit("abs", b)))


def _chain(op: str) -> Callable[[Step], Operand]:
    return lambda step: reduce(lambda a, b: step.emit(op, a, b), _numbers(step))


def _mean(step: Step) -> Operand:
    total = _chain("add")(step)
    return step.emit("div", total, step.constant(len(step.inputs()), total.dtype))


OPERATORS = (
    *(Row(name, _numeric(op), 1, 1) for name, op in _UNARY.items()),
    *(Row(name, _numeric(op), 2, 2) for name, op in _BINARY.items()),
    *(Row(name, plain(op), 2, 2) for name, op in _LOGICAL.items()),
    Row("Not", plain("logical_not"), 1, 1),
    Row("Where", plain("where"), 3, 3),
    Row("Pow", _pow, 2, 2),
    Row("Mod", _mod, 2, 2),
    Row("Sum", _chain("add"), 1, MANY),
    Row("Max", _chain("maximum"), 1, MANY),
    Row("Min", _chain("minimum"), 1, MANY),
    Row("Mean", _mean, 1, MANY),
)
