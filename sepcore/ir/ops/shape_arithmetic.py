"""Rows of the operators that carry shapes through a graph, and of those that change no number.

It must not know what the shapes are used for.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Any

import numpy as np

from sepcore.ir.graph import Array, Node, Value
from sepcore.ir.ops.attributes import DTYPE, FLOAT, INT
from sepcore.ir.ops.operator import Call, Operator, Tensor, shape_text

_INT64 = np.dtype(np.int64)


def _infer_like(call: Call) -> list[Tensor]:
    return [(call.shape("x"), call.dtype("x"))]


def _dtype(call: Call) -> np.dtype[Any]:
    dtype: np.dtype[Any] = np.dtype(call.attr("dtype"))
    return dtype


def _static_cast(call: Call, outputs: Sequence[Value]) -> Node:
    return call.spelled_out(dtype=_dtype(call))


def _infer_gather(call: Call) -> list[Tensor]:
    shape = call.shape("x")
    axis = call.axis("axis", len(shape))
    if call.dtype("indices").kind not in "iu":
        raise call.error("input indices", "integers", str(call.dtype("indices")))
    return [((*shape[:axis], *call.shape("indices"), *shape[axis + 1 :]), call.dtype("x"))]


def _compute_gather(call: Call, x: Array, indices: Array) -> Array:
    axis = call.axis("axis", x.ndim)
    length = x.shape[axis]
    if indices.size and not -length <= indices.min() <= indices.max() < length:
        raise call.error("input indices", f"-{length} ... {length - 1}", f"{indices.min()} ... {indices.max()}")
    return np.take(x, indices, axis)


def _static_gather(call: Call, outputs: Sequence[Value]) -> Node:
    return call.spelled_out(axis=call.axis("axis", len(call.shape("x"))))


def _infer_constant_of_shape(call: Call) -> list[Tensor]:
    shape = call.integers("shape")
    if any(length < 0 for length in shape):
        raise call.error("input shape", "no axis below 0", shape_text(shape))
    return [(shape, _dtype(call))]


def _infer_range(call: Call) -> list[Tensor]:
    dtype = call.dtype()
    bounds = []
    for name in ("start", "limit", "delta"):
        call.expect_shape(name, ())
        content = call.content(name)
        if content is None:
            raise call.error(f"input {name}", "a value that follows from the input shapes", repr(call.value(name).name))
        bounds.append(content.item())
    start, limit, delta = bounds
    if delta == 0 or not np.isfinite(bounds).all():
        raise call.error("inputs", "finite bounds and a step other than 0", f"{start}, {limit}, {delta}")
    return [((max(ceil((limit - start) / delta), 0),), dtype)]


def _compute_range(call: Call, start: Array, limit: Array, delta: Array) -> Array:
    (count,) = _infer_range(call)[0][0]
    return start + np.arange(count) * delta


OPERATORS = (
    Operator("identity", ("x",), _infer_like, lambda call, x: x),
    Operator("dropout", ("x",), _infer_like, lambda call, x: x),
    Operator(
        "cast",
        ("x",),
        lambda call: [(call.shape("x"), _dtype(call))],
        lambda call, x: x,
        {"dtype": DTYPE},
        static=_static_cast,
    ),
    Operator(
        "shape",
        ("x",),
        lambda call: [((len(call.shape("x")),), _INT64)],
        lambda call, x: np.array(call.shape("x"), _INT64),
    ),
    Operator(
        "gather",
        ("x", "indices"),
        _infer_gather,
        _compute_gather,
        {"axis": INT.with_default(0)},
        static=_static_gather,
    ),
    Operator(
        "constant_of_shape",
        ("shape",),
        _infer_constant_of_shape,
        lambda call, shape: np.full(call.integers("shape"), call.attr("value")),
        {"value": FLOAT.with_default(0.0), "dtype": DTYPE.with_default(np.dtype(np.float32))},
        static=_static_cast,
    ),
    Operator("range", ("start", "limit", "delta"), _infer_range, _compute_range),
)
