"""Rows of the element-by-element arithmetic: unary functions, binary operators with broadcasting, comparisons, choice.

It must not know which of these a kernel fuses.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from sepcore.ir.graph import Array
from sepcore.ir.ops.activation import erf
from sepcore.ir.ops.operator import Call, Operator, Shape, Tensor, shape_text


def _infer_floating(call: Call) -> list[Tensor]:
    return [(call.shape("x"), call.floating("x"))]


def _infer_number(call: Call) -> list[Tensor]:
    return [(call.shape("x"), call.dtype("x"))]


def broadcast(call: Call, *names: str) -> Shape:
    """The shape that the inputs ``names`` broadcast to, by numpy's rule."""
    shapes = [call.shape(name) for name in names]
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        raise call.error("inputs", "shapes that broadcast", " and ".join(map(shape_text, shapes))) from None


def _infer_binary(call: Call) -> list[Tensor]:
    return [(broadcast(call, "a", "b"), call.dtype("a", "b"))]


def _infer_comparison(call: Call) -> list[Tensor]:
    call.dtype("a", "b")
    return [(broadcast(call, "a", "b"), np.dtype(np.bool_))]


def _logical(call: Call) -> None:
    if call.dtype() != np.bool_:
        raise call.error("inputs", "bool", str(call.dtype()))


def _infer_logical(call: Call) -> list[Tensor]:
    _logical(call)
    return _infer_comparison(call)


def _infer_not(call: Call) -> list[Tensor]:
    _logical(call)
    return _infer_number(call)


def _infer_where(call: Call) -> list[Tensor]:
    if call.dtype("cond") != np.bool_:
        raise call.error("input cond", "bool", str(call.dtype("cond")))
    return [(broadcast(call, "cond", "a", "b"), call.dtype("a", "b"))]


def _divide(a: Array, b: Array) -> Array:
    """a / b; integers are divided exactly and truncated towards zero, as in ONNX."""
    if a.dtype.kind == "f":
        return a / b
    quotient = np.abs(a) // np.abs(b)
    return np.where((a < 0) == (b < 0), quotient, -quotient)


def _power(a: Array, b: Array) -> Array:
    """a ** b; integers by way of float64, where a negative exponent gives a fraction."""
    return np.power(a.astype(np.float64), b.astype(np.float64))


_UNARY: dict[str, Callable[[Array], Array]] = {
    "tanh": np.tanh,
    "exp": np.exp,
    "log": np.log,
    "sqrt": np.sqrt,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "reciprocal": lambda x: 1 / x,
    "erf": erf,
    "sin": np.sin,
    "cos": np.cos,
    "floor": np.floor,
    "ceil": np.ceil,
    "round": np.round,
}
_UNARY_NUMBER: dict[str, Callable[[Array], Array]] = {"neg": np.negative, "abs": np.abs, "sign": np.sign}
_BINARY: dict[str, Callable[[Array, Array], Array]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": _divide,
    "pow": _power,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "mod": np.mod,
    "floor_div": np.floor_divide,
}
_COMPARISONS: dict[str, Callable[[Array, Array], Array]] = {
    "equal": np.equal,
    "not_equal": np.not_equal,
    "less": np.less,
    "less_equal": np.less_equal,
    "greater": np.greater,
    "greater_equal": np.greater_equal,
}
_LOGICAL: dict[str, Callable[[Array, Array], Array]] = {
    "logical_and": np.logical_and,
    "logical_or": np.logical_or,
}


def _rows(
    functions: dict[str, Callable[..., Array]], inputs: tuple[str, ...], infer: Callable[[Call], list[Tensor]]
) -> list[Operator]:
    def compute(function: Callable[..., Array]) -> Callable[..., Any]:
        return lambda call, *arrays: function(*arrays)

    return [Operator(name, inputs, infer, compute(function)) for name, function in functions.items()]


OPERATORS = (
    *_rows(_UNARY, ("x",), _infer_floating),
    *_rows(_UNARY_NUMBER, ("x",), _infer_number),
    *_rows(_BINARY, ("a", "b"), _infer_binary),
    *_rows(_COMPARISONS, ("a", "b"), _infer_comparison),
    *_rows(_LOGICAL, ("a", "b"), _infer_logical),
    *_rows({"logical_not": np.logical_not}, ("x",), _infer_not),
    *_rows({"where": np.where}, ("cond", "a", "b"), _infer_where),
)
