"""Rows of the reductions over axes, of batch normalisation, of softmax and of running sums.

It must not know in which order a kernel adds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from sepcore.ir.graph import Array, Node, Value
from sepcore.ir.ops.attributes import FLAG, FLOAT, INT, INTS
from sepcore.ir.ops.operator import Call, Operator, Tensor


def _axes(call: Call) -> tuple[int, ...]:
    axes = tuple(sorted(call.axes("axes", len(call.shape("x")))))
    if not axes:
        raise call.error("attribute axes", "at least one axis", "()")
    return axes


def _infer_reduce(call: Call) -> list[Tensor]:
    dtype = call.floating("x") if call.node.op == "reduce_mean" else call.dtype("x")
    axes, keep = _axes(call), call.attr("keepdims")
    lengths = ((1 if keep else None) if axis in axes else length for axis, length in enumerate(call.shape("x")))
    return [(tuple(length for length in lengths if length is not None), dtype)]


def _reduce(function: Callable[..., Array]) -> Callable[..., Array]:
    return lambda call, x: function(x, axis=_axes(call), keepdims=call.attr("keepdims"))


def _infer_batch_norm(call: Call) -> list[Tensor]:
    shape = call.shape("x")
    if len(shape) < 2:
        raise call.error("input x", "at least 2 axes", str(len(shape)))
    for name in ("scale", "bias", "mean", "var"):
        call.expect_shape(name, (shape[1],))
    return [(shape, call.floating())]


def _compute_batch_norm(call: Call, x: Array, scale: Array, bias: Array, mean: Array, var: Array) -> Array:
    scale, bias, mean, var = (a.reshape(-1, *(1,) * (x.ndim - 2)) for a in (scale, bias, mean, var))
    normalised: Array = (x - mean) / np.sqrt(var + call.attr("eps"))
    return normalised * scale + bias


def _log_softmax(x: Array, axis: int) -> Array:
    x = x - np.max(x, axis=axis, keepdims=True)
    total: Array = np.sum(np.exp(x), axis=axis, keepdims=True)
    return x - np.log(total)


def _row_along_axis(name: str, function: Callable[[Array, int], Array], floating: bool = True) -> Operator:
    def axis(call: Call) -> int:
        return call.axis("axis", len(call.shape("x")))

    def infer(call: Call) -> list[Tensor]:
        axis(call)
        return [(call.shape("x"), call.floating("x") if floating else call.dtype("x"))]

    def static(call: Call, outputs: Sequence[Value]) -> Node:
        return call.spelled_out(axis=axis(call))

    return Operator(name, ("x",), infer, lambda call, x: function(x, axis(call)), {"axis": INT}, static=static)


def _static_reduce(call: Call, outputs: Sequence[Value]) -> Node:
    return call.spelled_out(axes=_axes(call))


OPERATORS = (
    *(
        Operator(
            name,
            ("x",),
            _infer_reduce,
            _reduce(function),
            {"axes": INTS, "keepdims": FLAG.with_default(False)},
            static=_static_reduce,
        )
        for name, function in (
            ("reduce_mean", np.mean),
            ("reduce_sum", np.sum),
            ("reduce_max", np.max),
            ("reduce_min", np.min),
        )
    ),
    Operator(
        "batch_norm",
        ("x", "scale", "bias", "mean", "var"),
        _infer_batch_norm,
        _compute_batch_norm,
        {"eps": FLOAT},
    ),
    _row_along_axis("softmax", lambda x, axis: np.exp(_log_softmax(x, axis))),
    _row_along_axis("log_softmax", _log_softmax),
    _row_along_axis("cumsum", np.cumsum, floating=False),
)
