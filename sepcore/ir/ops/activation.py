"""Rows of the activation functions, and the ``activation`` attribute that a convolution may carry.

It must not know which of them a kernel can fuse.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from sepcore.ir.graph import Array, Node
from sepcore.ir.ops.attributes import FLOAT, FUSABLE_ACTIVATIONS, Attribute, one_of
from sepcore.ir.ops.operator import Call, Operator, Tensor

HARDSIGMOID_ALPHA, HARDSIGMOID_BETA = 1 / 6, 0.5

erf = np.vectorize(math.erf, otypes=[np.float64])


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), without overflow."""
    return np.exp(-np.logaddexp(0.0, -x))


def _leaky_relu(x: Array, slope: float) -> Array:
    return np.where(x < 0, slope * x, x)


def _hardsigmoid(x: Array, alpha: float = HARDSIGMOID_ALPHA, beta: float = HARDSIGMOID_BETA) -> Array:
    return np.clip(alpha * x + beta, 0.0, 1.0)


def _gelu(x: Array, approximate: str) -> Array:
    if approximate == "tanh":
        bent: Array = np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))
    else:
        bent = erf(x / math.sqrt(2))
    result: Array = 0.5 * x * (1 + bent)
    return result


_FUNCTIONS: dict[str, Callable[..., Array]] = {
    "relu": lambda x: np.maximum(x, 0),
    "clamp": lambda x, lo, hi: np.minimum(np.maximum(x, lo), hi),
    "leaky_relu": _leaky_relu,
    "elu": lambda x, alpha: np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0))),
    "silu": lambda x: x * sigmoid(x),
    "gelu": _gelu,
    "hardswish": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "hardsigmoid": _hardsigmoid,
    "sigmoid": sigmoid,
    "softplus": lambda x: np.logaddexp(0.0, x),
    "mish": lambda x: x * np.tanh(np.logaddexp(0.0, x)),
}

_ATTRIBUTES: dict[str, dict[str, Attribute]] = {
    "clamp": {"lo": FLOAT.with_default(-math.inf), "hi": FLOAT.with_default(math.inf)},
    "leaky_relu": {"slope": FLOAT},
    "elu": {"alpha": FLOAT.with_default(1.0)},
    "gelu": {"approximate": one_of("none", "tanh").with_default("none")},
    "hardsigmoid": {
        "alpha": FLOAT.with_default(HARDSIGMOID_ALPHA),
        "beta": FLOAT.with_default(HARDSIGMOID_BETA),
    },
}


def activated(call: Call, x: Array) -> Array:
    """``x`` after the call's ``activation`` attribute, if it has one."""
    activation = call.attr("activation")
    if activation is None:
        return x
    name, *arguments = activation
    return _FUNCTIONS[name](x, **dict(zip(FUSABLE_ACTIVATIONS[name], arguments)))


def activation_of(node: Node) -> tuple[Any, ...] | None:
    """The ``activation`` attribute that says the same as ``node``; None where there is none."""
    names = FUSABLE_ACTIVATIONS.get(node.op)
    if names is None:
        return None
    row = _ROWS[node.op]
    spoken_for = all(
        row.attribute(node, name) == attribute.default
        for name, attribute in row.attributes.items()
        if name not in names
    )
    return (node.op, *(float(row.attribute(node, name)) for name in names)) if spoken_for else None


def _infer(call: Call) -> list[Tensor]:
    dtype = call.dtype("x") if call.node.op in ("relu", "clamp") else call.floating("x")
    return [(call.shape("x"), dtype)]


def _row(name: str, function: Callable[..., Array]) -> Operator:
    attributes = _ATTRIBUTES.get(name, {})

    def compute(call: Call, x: Array) -> Array:
        return function(x, **{attribute: call.attr(attribute) for attribute in attributes})

    return Operator(name, ("x",), _infer, compute, attributes)


def _infer_prelu(call: Call) -> list[Tensor]:
    dtype, shape = call.floating("x", "slope"), call.shape("x")
    (slopes,) = call.shape("slope", 1)
    channels = shape[1] if len(shape) > 1 else 1
    if slopes not in (1, channels):
        raise call.error("input slope", f"1 or {channels} slopes", str(slopes))
    return [(shape, dtype)]


def _compute_prelu(call: Call, x: Array, slope: Array) -> Array:
    return np.where(x < 0, x * slope.reshape(-1, *(1,) * max(x.ndim - 2, 0)), x)


_ROWS = {name: _row(name, function) for name, function in _FUNCTIONS.items()}

OPERATORS = (*_ROWS.values(), Operator("prelu", ("x", "slope"), _infer_prelu, _compute_prelu))
