"""Element-by-element arithmetic, comparisons and choice.

It must not know what is computed with them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from sepcore.formats.torch_export.call import BOOL, INT64, AtenCall, Operand, UnsupportedError, Value
from sepcore.formats.torch_export.ops.activation import plain
from sepcore.formats.torch_export.ops.row import Row, Rows
from sepcore.formats.torch_export.program import Ref

Number = int | float
_FLOAT = np.dtype(np.float32)


def operand_or_number(call: AtenCall, name: str) -> Operand | Number:
    """An argument that is a tensor, a symbolic number or a plain one."""
    if isinstance(call.raw(name), Ref):
        return call.operand(name)
    number: Number = call.number(name)
    return number


def as_value(call: AtenCall, item: Operand | Number, dtype: np.dtype[Any]) -> Value:
    """A tensor or number as a value of one type."""
    return call.cast(item, dtype) if isinstance(item, Operand) else call.constant(item, dtype)


def common_dtype(a: Operand | Number, b: Operand | Number) -> np.dtype[Any]:
    """The type in which PyTorch combines two operands.

    Operands with axes come first, then those without, then plain numbers; a later group counts only if it is of a
    higher category (truth values, integers, floating-point numbers). Source: torch.result_type.
    """
    groups: list[list[np.dtype[Any]]] = [[], [], []]
    for item in (a, b):
        if isinstance(item, Operand):
            groups[0 if item.rank else 1].append(item.dtype)
        else:
            groups[2].append(BOOL if isinstance(item, bool) else INT64 if isinstance(item, int) else _FLOAT)
    widest = [_widest(dtypes) for dtypes in groups if dtypes]
    return max(widest, key=_category)


def _category(dtype: np.dtype[Any]) -> int:
    return 0 if dtype == BOOL else 1 if dtype.kind in "iu" else 2


def _widest(dtypes: list[np.dtype[Any]]) -> np.dtype[Any]:
    """The type that holds all of the highest category among ``dtypes``."""
    highest = max(map(_category, dtypes))
    wide: np.dtype[Any] = np.result_type(*(dtype for dtype in dtypes if _category(dtype) == highest))
    return wide


def _pair(call: AtenCall, dtype: np.dtype[Any]) -> tuple[Value, Value]:
    a, b = operand_or_number(call, "self"), operand_or_number(call, "other")
    return as_value(call, a, dtype), as_value(call, b, dtype)


def _binary(op: str) -> Row:
    return lambda call: call.emit(op, *_pair(call, call.output.dtype))


def _compared(op: str) -> Row:
    def row(call: AtenCall) -> Value:
        a, b = operand_or_number(call, "self"), operand_or_number(call, "other")
        return call.emit(op, *_pair(call, common_dtype(a, b)))

    return row


def _sum(op: str, *, reverse: bool = False) -> Row:
    """self + alpha * other, and what is like it."""

    def row(call: AtenCall) -> Value:
        a, b = _pair(call, call.output.dtype)
        a, b = (b, a) if reverse else (a, b)
        alpha = call.number("alpha", 1)
        return call.emit(op, a, b if alpha == 1 else call.emit("mul", b, call.constant(alpha, call.output.dtype)))

    return row


def _rounded_division(call: AtenCall, mode: str | None) -> Value:
    a, b = _pair(call, call.output.dtype)
    if mode == "floor":
        return call.emit("floor_div", a, b)
    quotient = call.emit("div", a, b)
    if mode is None or call.output.dtype.kind != "f":
        return quotient
    return _truncated(call, quotient)


def _truncated(call: AtenCall, x: Value) -> Value:
    return call.emit("mul", call.emit("sign", x), call.emit("floor", call.emit("abs", x)))


def _divide(call: AtenCall) -> Value:
    mode = call.text("rounding_mode", None)
    if mode not in (None, "floor", "trunc"):
        raise call.error("argument 'rounding_mode'", "'floor' or 'trunc'", repr(mode))
    return _rounded_division(call, mode)


def _sum_with_product(op: str) -> Row:
    """self + value * tensor1 * tensor2, or with a quotient."""

    def row(call: AtenCall) -> Value:
        dtype = call.output.dtype
        x, a, b = (call.cast(call.operand(name), dtype) for name in ("self", "tensor1", "tensor2"))
        made, value = call.emit(op, a, b), call.number("value", 1)
        return call.emit("add", x, made if value == 1 else call.emit("mul", made, call.constant(value, dtype)))

    return row


def _remainder_of_truncation(call: AtenCall) -> Value:
    """a - trunc(a / b) * b, which has a's sign, as in C."""
    a, b = _pair(call, call.output.dtype)
    quotient: Value = call.emit("div", a, b)
    whole = _truncated(call, quotient) if call.output.dtype.kind == "f" else quotient
    return call.emit("sub", a, call.emit("mul", whole, b))


def _exponential_less_one(call: AtenCall) -> Value:
    dtype = call.output.dtype
    return call.emit("sub", call.emit("exp", call.cast(call.operand("self"), dtype)), call.constant(1, dtype))


def _logarithm_of_one_more(call: AtenCall) -> Value:
    dtype = call.output.dtype
    return call.emit("log", call.emit("add", call.cast(call.operand("self"), dtype), call.constant(1, dtype)))


def _power(call: AtenCall) -> Value:
    dtype = call.output.dtype
    base, exponent = operand_or_number(call, "self"), operand_or_number(call, "exponent")
    x = as_value(call, base, dtype)
    if exponent == 2:
        return call.emit("mul", x, x)
    if not isinstance(exponent, Operand) and dtype.kind == "f" and exponent in _ROOTS:
        return call.emit(_ROOTS[exponent], x)
    return call.emit("pow", x, as_value(call, exponent, dtype))


_ROOTS = {0.5: "sqrt", -0.5: "rsqrt", -1.0: "reciprocal"}


def _square(call: AtenCall) -> Value:
    x = call.operand("self")
    return call.emit("mul", x, x)


def _logarithm(base: float) -> Row:
    def row(call: AtenCall) -> Value:
        natural = call.emit("log", call.cast(call.operand("self"), call.output.dtype))
        return call.emit("mul", natural, call.constant(1 / math.log(base), call.output.dtype))

    return row


def _clamp(call: AtenCall) -> Value:
    """Bounds that are numbers become attributes; either may be missing."""
    x, bounds = call.cast(call.operand("self"), call.output.dtype), {"lo": "min", "hi": "max"}
    numbers = {}
    for attribute, name in bounds.items():
        if not call.given(name):
            continue
        bound = operand_or_number(call, name)
        if isinstance(bound, Operand):
            x = call.emit({"min": "maximum", "max": "minimum"}[name], x, call.cast(bound, call.output.dtype))
        else:
            numbers[attribute] = float(bound)
    return call.emit("clamp", x, **numbers) if numbers else x


def _logical(op: str) -> Row:
    return lambda call: call.emit(op, *_pair(call, BOOL))


def _logical_not(call: AtenCall) -> Value:
    return call.emit("logical_not", call.cast(call.operand("self"), BOOL))


def _bitwise(row: Row) -> Row:
    def checked(call: AtenCall) -> Any:
        if call.output.dtype != BOOL:
            raise UnsupportedError("bits of integers")
        return row(call)

    return checked


def _where(call: AtenCall) -> Value:
    condition = call.cast(call.operand("condition"), BOOL)
    return call.emit("where", condition, *_pair(call, call.output.dtype))


def _masked_fill(call: AtenCall) -> Value:
    dtype = call.output.dtype
    filled = as_value(call, operand_or_number(call, "value"), dtype)
    return call.emit("where", call.operand("mask"), filled, call.cast(call.operand("self"), dtype))


_UNARY = (
    *("exp", "log", "sqrt", "rsqrt", "reciprocal", "erf", "sin", "cos"),
    *("floor", "ceil", "round", "neg", "abs", "sign"),
)
_COMPARISONS = {
    "eq": "equal",
    "ne": "not_equal",
    "lt": "less",
    "le": "less_equal",
    "gt": "greater",
    "ge": "greater_equal",
}


def _overloads(name: str, row: Row) -> Rows:
    return {f"aten.{name}.{overload}": row for overload in ("Tensor", "Scalar")}


OPERATORS: Rows = {
    **{f"aten.{name}.default": plain(name) for name in _UNARY},
    "aten.trunc.default": lambda call: _truncated(call, call.operand("self")),
    "aten.square.default": _square,
    "aten.expm1.default": _exponential_less_one,
    "aten.log1p.default": _logarithm_of_one_more,
    "aten.log2.default": _logarithm(2),
    "aten.log10.default": _logarithm(10),
    **_overloads("add", _sum("add")),
    **_overloads("sub", _sum("sub")),
    "aten.addcmul.default": _sum_with_product("mul"),
    "aten.addcdiv.default": _sum_with_product("div"),
    **_overloads("rsub", _sum("sub", reverse=True)),
    **_overloads("mul", _binary("mul")),
    **_overloads("div", _divide),
    "aten.true_divide.Tensor": _divide,
    "aten.div.Tensor_mode": _divide,
    "aten.div.Scalar_mode": _divide,
    "aten.floor_divide.default": lambda call: _rounded_division(call, "floor"),
    "aten.floor_divide.Scalar": lambda call: _rounded_division(call, "floor"),
    **_overloads("remainder", _binary("mod")),
    **_overloads("fmod", _remainder_of_truncation),
    "aten.pow.Tensor_Scalar": _power,
    "aten.pow.Tensor_Tensor": _power,
    "aten.pow.Scalar": _power,
    "aten.maximum.default": _binary("maximum"),
    "aten.minimum.default": _binary("minimum"),
    "aten.max.other": _binary("maximum"),
    "aten.min.other": _binary("minimum"),
    "aten.clamp.default": _clamp,
    "aten.clamp.Tensor": _clamp,
    "aten.clamp_min.default": _clamp,
    "aten.clamp_min.Tensor": _clamp,
    "aten.clamp_max.default": _clamp,
    "aten.clamp_max.Tensor": _clamp,
    **{key: row for name, op in _COMPARISONS.items() for key, row in _overloads(name, _compared(op)).items()},
    "aten.logical_and.default": _logical("logical_and"),
    "aten.logical_or.default": _logical("logical_or"),
    "aten.logical_xor.default": _logical("not_equal"),
    "aten.logical_not.default": _logical_not,
    **{
        f"aten.{spelling}.Tensor": _bitwise(_logical(op))
        for word, op in (("and", "logical_and"), ("or", "logical_or"), ("xor", "not_equal"))
        for spelling in (f"bitwise_{word}", f"__{word}__")
    },
    "aten.bitwise_not.default": _bitwise(_logical_not),
    "aten.where.self": _where,
    "aten.where.Scalar": _where,
    "aten.where.ScalarSelf": _where,
    "aten.where.ScalarOther": _where,
    "aten.masked_fill.Scalar": _masked_fill,
    "aten.masked_fill.Tensor": _masked_fill,
}
