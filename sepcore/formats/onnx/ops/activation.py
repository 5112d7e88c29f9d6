"""Activation functions.

It must not know which of them a kernel can fuse.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from sepcore.formats.onnx.ops.layout import reshaped
from sepcore.formats.onnx.ops.row import Row
from sepcore.formats.onnx.step import Operand, Step

_SIXTH = 1 / 6


def plain(op: str) -> Callable[[Step], Operand]:
    """An operator without attributes that exists in the graph too."""
    return lambda step: step.emit(op, *step.inputs())


def _with_number(op: str, attribute: str, name: str, default: float) -> Callable[[Step], Operand]:
    return lambda step: step.emit(op, step.input(0), **{name: step.number(attribute, default)})


def _clip(step: Step) -> Operand:
    x, lo, hi = step.input(0), step.optional(1), step.optional(2)
    if all(bound is None or bound.content is not None for bound in (lo, hi)):
        bounds = {
            "lo": -math.inf if lo is None else step.constant_number(1, "the minimum"),
            "hi": math.inf if hi is None else step.constant_number(2, "the maximum"),
        }
        return step.emit("clamp", x, **bounds)
    if lo is not None:
        x = step.emit("maximum", x, lo)
    return x if hi is None else step.emit("minimum", x, hi)


def _hard_sigmoid(step: Step) -> Operand:
    alpha, beta = step.number("alpha", 0.2), step.number("beta", 0.5)
    # PyTorch's is a sixth, which the file holds as a float32.
    exact = _SIXTH if np.float32(alpha) == np.float32(_SIXTH) else alpha
    return step.emit("hardsigmoid", step.input(0), alpha=exact, beta=beta)


def _prelu(step: Step) -> Operand:
    """A slope per channel, where the file's shape says so; any other broadcasts like an operand."""
    x, slope = step.input(0), step.input(1)
    per_channel = x.rank > 1 and slope.rank >= x.rank - 1 and all(length == 1 for length in slope.shape[2 - x.rank :])
    if x.rank > 2 and per_channel and (slope.rank < x.rank or slope.shape[0] == 1):
        return step.emit("prelu", x, reshaped(step, slope, (-1,)))
    if all(length == 1 for length in slope.shape):
        return step.emit("prelu", x, reshaped(step, slope, (-1,)))
    zero = step.constant(0, x.dtype)
    negative = step.emit("mul", slope, step.emit("minimum", x, zero))
    return step.emit("add", step.emit("relu", x), negative)


def _selu(step: Step) -> Operand:
    alpha, gamma = step.number("alpha", 1.6732632), step.number("gamma", 1.0507010)
    x = step.floating(0)
    return step.emit("mul", step.emit("elu", x, alpha=alpha), step.constant(gamma, x.dtype))


def _celu(step: Step) -> Operand:
    """max(0, x) + min(0, alpha * (exp(x / alpha) - 1)), which is alpha * elu(x / alpha)."""
    x, alpha = step.floating(0), step.number("alpha", 1.0)
    scale = step.constant(alpha, x.dtype)
    return step.emit("mul", step.emit("elu", step.emit("div", x, scale), alpha=1.0), scale)


def _softsign(step: Step) -> Operand:
    x = step.floating(0)
    return step.emit("div", x, step.emit("add", step.emit("abs", x), step.constant(1, x.dtype)))


def _gelu(step: Step) -> Operand:
    approximate = step.text("approximate", "none")
    if approximate not in ("none", "tanh"):
        raise step.error("attribute 'approximate'", "none or tanh", repr(approximate))
    return step.emit("gelu", step.input(0), approximate=approximate)


def _softmax(op: str) -> Callable[[Step], Operand]:
    """Before opset 13 it runs over all axes from ``axis`` on, as if they were one."""

    def translate(step: Step) -> Operand:
        x = step.input(0)
        axis = step.axis(step.integer("axis", -1 if step.opset >= 13 else 1), x.rank)
        if step.opset >= 13 or axis == x.rank - 1:
            return step.emit(op, x, axis=axis)
        flat = step.emit("flatten", x, start_axis=axis, end_axis=-1)
        return step.emit("reshape", step.emit(op, flat, axis=axis), step.emit("shape", x))

    return translate


OPERATORS = (
    *(
        Row(name, plain(op), 1, 1)
        for name, op in (
            ("Relu", "relu"),
            ("Sigmoid", "sigmoid"),
            ("Tanh", "tanh"),
            ("HardSwish", "hardswish"),
            ("Mish", "mish"),
            ("Softplus", "softplus"),
        )
    ),
    Row("LeakyRelu", _with_number("leaky_relu", "alpha", "slope", 0.01), 1, 1),
    Row("Elu", _with_number("elu", "alpha", "alpha", 1.0), 1, 1),
    Row("Clip", _clip, 1, 3),
    Row("HardSigmoid", _hard_sigmoid, 1, 1),
    Row("PRelu", _prelu, 2, 2),
    Row("Selu", _selu, 1, 1),
    Row("Celu", _celu, 1, 1),
    Row("Softsign", _softsign, 1, 1),
    Row("Gelu", _gelu, 1, 1),
    Row("Softmax", _softmax("softmax"), 1, 1),
    Row("LogSoftmax", _softmax("log_softmax"), 1, 1),
)
