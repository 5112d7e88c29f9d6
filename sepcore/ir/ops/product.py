"""Rows of the matrix products.

It must not know how a product is computed fast.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import cast

import numpy as np

from sepcore.ir.graph import Array, Value
from sepcore.ir.ops.activation import activated
from sepcore.ir.ops.attributes import ACTIVATION
from sepcore.ir.ops.operator import Call, Operator, Shape, Tensor, shape_text


def _infer_linear(call: Call) -> list[Tensor]:
    dtype = call.floating("x", "weight", "bias")
    shape = call.shape("x")
    features, inner = call.shape("weight", 2)
    if not shape or shape[-1] != inner:
        raise call.error("input x", f"a last axis of {inner}", shape_text(shape))
    call.expect_shape("bias", (features,))
    return [((*shape[:-1], features), dtype)]


def _compute_linear(call: Call, x: Array, weight: Array, bias: Array | None = None) -> Array:
    total = x @ weight.T
    return activated(call, total if bias is None else total + bias)


def _infer_matmul(call: Call) -> list[Tensor]:
    dtype = call.floating("a", "b")
    a, b = call.shape("a"), call.shape("b")
    if not a or not b:
        raise call.error("inputs", "at least one axis each", f"{shape_text(a)} and {shape_text(b)}")
    rows, columns = (1, *a) if len(a) == 1 else a, (*b, 1) if len(b) == 1 else b
    if rows[-1] != columns[-2]:
        raise call.error("input b", f"{rows[-1]} rows, as a {shape_text(a)} has columns", shape_text(b))
    try:
        batch = np.broadcast_shapes(rows[:-2], columns[:-2])
    except ValueError:
        raise call.error("inputs", "leading axes that broadcast", f"{shape_text(a)} and {shape_text(b)}") from None
    return [((*batch, *(rows[-2:-1] if len(a) > 1 else ()), *(columns[-1:] if len(b) > 1 else ())), dtype)]


def _linear_macs(call: Call, outputs: Sequence[Value]) -> int:
    return prod(cast(Shape, outputs[0].shape)) * call.shape("weight")[1]


def _matmul_macs(call: Call, outputs: Sequence[Value]) -> int:
    return prod(cast(Shape, outputs[0].shape)) * call.shape("a")[-1]


OPERATORS = (
    Operator(
        "linear",
        ("x", "weight", "bias?"),
        _infer_linear,
        _compute_linear,
        {"activation": ACTIVATION},
        macs=_linear_macs,
    ),
    Operator("matmul", ("a", "b"), _infer_matmul, lambda call, a, b: a @ b, macs=_matmul_macs),
)
