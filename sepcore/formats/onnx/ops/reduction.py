"""Reductions over axes.

It must not know in which order elements are added.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

from sepcore.formats.onnx.ops.row import Row
from sepcore.formats.onnx.step import Operand, Step, UnsupportedError

_LONGEST_PRODUCT = 64
_FARTHEST = 1 << 62


def _axes(step: Step, x: Operand) -> tuple[int, ...]:
    """The axes, an attribute first and an input since opset 13 or 18; all where none are given."""
    given, none_is_all = step.integers("axes", ()), not step.flag("noop_with_empty_axes")
    if step.has(1):
        given = step.constant_integers(1, "the axes")
    if not given and not none_is_all:
        return ()
    axes = step.axes(given, x.rank) or tuple(range(x.rank))
    if any(x.shape[axis] == 0 for axis in axes):
        raise UnsupportedError("a reduction of no elements")
    return axes


def _reduced(step: Step, op: str, x: Operand, axes: tuple[int, ...]) -> Operand:
    keepdims = step.flag("keepdims", True)
    return step.emit(op, x, axes=axes, keepdims=keepdims) if axes else x


def _plain(op: str) -> Callable[[Step], Operand]:
    def translate(step: Step) -> Operand:
        x = step.input(0)
        return _reduced(step, op, x, _axes(step, x))

    return translate


def _l1(step: Step) -> Operand:
    x = step.input(0)
    return _reduced(step, "reduce_sum", step.emit("abs", x), _axes(step, x))


def _sum_of_squares(step: Step) -> Operand:
    x = step.input(0)
    return _reduced(step, "reduce_sum", step.emit("mul", x, x), _axes(step, x))


def _l2(step: Step) -> Operand:
    return step.emit("sqrt", _sum_of_squares(step))


def _product(step: Step) -> Operand:
    """The product along one axis, as exporters count elements."""
    x = step.input(0)
    axes = _axes(step, x)
    length = x.shape[axes[0]] if len(axes) == 1 else None
    if length is None or not 1 <= length <= _LONGEST_PRODUCT:
        raise UnsupportedError(f"a product of other than 1 to {_LONGEST_PRODUCT} elements of one axis")
    (axis,) = axes
    parts = step.emit_many("split", x, outputs=length, axis=axis, sizes=(1,) * length) if length > 1 else [x]
    product = reduce(lambda a, b: step.emit("mul", a, b), parts)
    return product if step.flag("keepdims", True) else step.emit("squeeze", product, axes=(axis,))


def _cumsum(step: Step) -> Operand:
    """Running sums; ``exclusive`` ones leave out the element itself, ``reverse`` ones run from the end."""
    x = step.input(0)
    axes = step.constant_integers(1, "the axis")
    if len(axes) != 1:
        raise step.error("the axis", "one number", str(axes))
    axis = step.axis(axes[0], x.rank)
    reverse = step.flag("reverse")
    made = step.emit("cumsum", _reversed(step, x, axis) if reverse else x, axis=axis)
    made = _reversed(step, made, axis) if reverse else made
    return step.emit("sub", made, x) if step.flag("exclusive") else made


def _reversed(step: Step, x: Operand, axis: int) -> Operand:
    return step.emit("slice", x, axes=(axis,), starts=(_FARTHEST,), ends=(-_FARTHEST,), steps=(-1,))


OPERATORS = (
    *(
        Row(name, _plain(op), 1, 2)
        for name, op in (
            ("ReduceMean", "reduce_mean"),
            ("ReduceSum", "reduce_sum"),
            ("ReduceMax", "reduce_max"),
            ("ReduceMin", "reduce_min"),
        )
    ),
    Row("ReduceL1", _l1, 1, 2),
    Row("ReduceL2", _l2, 1, 2),
    Row("ReduceSumSquare", _sum_of_squares, 1, 2),
    Row("ReduceProd", _product, 1, 2),
    Row("CumSum", _cumsum, 2, 2),
)
