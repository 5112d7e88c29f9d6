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
    "Erf": "erf",
    "Exp": "exp",
    "Floor": "floor",
    "Log": "log",
    "Neg": "neg",
    "Not": "logical_not",
    "Reciprocal": "reciprocal",
    "Round": "round",
    "Sign": "sign",
    "Sqrt": "sqrt",
}
_BINARY = {
    "Add": "add",
    "Sub": "sub",
    "Mul": "mul",
    "Div": "div",
    "And": "logical_and",
    "Or": "logical_or",
    "Xor": "not_equal",
    "Equal": "equal",
    "Less": "less",
    "LessOrEqual": "less_equal",
    "Greater": "greater",
    "GreaterOrEqual": "greater_equal",
}


def _pow(step: Step) -> Operand:
    """The result has the base's type, whatever the exponent's."""
    base, exponent = step.inputs()
    return step.emit("pow", base, step.cast(exponent, base.dtype))


def _mod(step: Step) -> Operand:
    """The sign is the divisor's; with ``fmod`` the dividend's, as in C."""
    a, b = step.inputs()
    if not step.flag("fmod"):
        return step.emit("mod", a, b)
    return step.emit("mul", step.emit("sign", a), step.emit("mod", step.emit("abs", a), step.emit("abs", b)))


def _chain(op: str) -> Callable[[Step], Operand]:
    return lambda step: reduce(lambda a, b: step.emit(op, a, b), step.inputs())


def _mean(step: Step) -> Operand:
    total = _chain("add")(step)
    return step.emit("div", total, step.constant(len(step.inputs()), total.dtype))


OPERATORS = (
    *(Row(name, plain(op), 1, 1) for name, op in _UNARY.items()),
    *(Row(name, plain(op), 2, 2) for name, op in _BINARY.items()),
    Row("Where", plain("where"), 3, 3),
    Row("Pow", _pow, 2, 2),
    Row("Mod", _mod, 2, 2),
    Row("Sum", _chain("add"), 1, MANY),
    Row("Max", _chain("maximum"), 1, MANY),
    Row("Min", _chain("minimum"), 1, MANY),
    Row("Mean", _mean, 1, MANY),
)
