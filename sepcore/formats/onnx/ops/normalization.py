"""Normalisations; all but that over the batch are taken apart into reductions and arithmetic.

It must not know training: statistics are constants, or those of the input itself.
"""

from __future__ import annotations

from sepcore.formats.onnx.ops.layout import reshaped
from sepcore.formats.onnx.ops.row import Row
from sepcore.formats.onnx.step import Operand, Step, UnsupportedError


def _batch(step: Step) -> Operand:
    """In training mode the statistics are the input's own: that is how exporters write standardised weights."""
    x = step.floating(0)
    if x.rank < 2:
        raise step.error("input 0", "at least two axes (n, c, ...)", str(x.rank))
    step.ignore("momentum")
    eps = step.number("epsilon", 1e-5)
    if step.flag("training_mode") or sum(map(bool, step.node.outputs)) > 1:
        if x.content is None:
            raise UnsupportedError("training mode; export the model after model.eval()")
        normalised = _normalised(step, x, (0, *range(2, x.rank)))
        return _scaled_and_shifted(step, normalised, step.input(1), step.input(2))
    for position, what in enumerate(("scale", "bias", "mean", "variance"), 1):
        step.content(position, f"the {what}")
    return step.emit("batch_norm", *step.inputs(), eps=eps)


def _deviation(step: Step, x: Operand, axes: tuple[int, ...]) -> Operand:
    """sqrt(mean(x * x) + eps) over ``axes``."""
    mean = step.emit("reduce_mean", step.emit("mul", x, x), axes=axes, keepdims=True)
    return step.emit("sqrt", step.emit("add", mean, step.constant(step.number("epsilon", 1e-5), x.dtype)))


def _normalised(step: Step, x: Operand, axes: tuple[int, ...]) -> Operand:
    """(x - mean) / sqrt(variance + eps) over ``axes``."""
    centred = step.emit("sub", x, step.emit("reduce_mean", x, axes=axes, keepdims=True))
    return step.emit("div", centred, _deviation(step, centred, axes))


def _per_channel(step: Step, parameter: Operand, rank: int) -> Operand:
    """``parameter`` (c) so that it broadcasts against (n, c, ...)."""
    return reshaped(step, parameter, (-1, *(1,) * (rank - 2)))


def _scaled_and_shifted(step: Step, x: Operand, scale: Operand, bias: Operand) -> Operand:
    scaled = step.emit("mul", x, _per_channel(step, scale, x.rank))
    return step.emit("add", scaled, _per_channel(step, bias, x.rank))


def _instance(step: Step) -> Operand:
    x, scale, bias = step.floating(0), step.input(1), step.input(2)
    if x.rank < 3:
        raise step.error("input 0", "at least three axes (n, c, ...)", str(x.rank))
    normalised = _normalised(step, x, tuple(range(2, x.rank)))
    return _scaled_and_shifted(step, normalised, scale, bias)


def _group(step: Step) -> Operand:
    """Before opset 21 scale and bias have one element per group, since then one per channel."""
    x, scale, bias = step.floating(0), step.input(1), step.input(2)
    if x.rank < 3:
        raise step.error("input 0", "at least three axes (n, c, ...)", str(x.rank))
    step.ignore("stash_type")
    groups = step.integer("num_groups")
    grouped = reshaped(step, x, (0, groups, -1))
    normalised = _normalised(step, grouped, (2,))
    if step.opset < 21:
        normalised = _scaled_and_shifted(step, normalised, scale, bias)
    back = step.emit("reshape", normalised, step.emit("shape", x))
    return back if step.opset < 21 else _scaled_and_shifted(step, back, scale, bias)


def _last_axes(step: Step, x: Operand) -> tuple[int, ...]:
    step.ignore("stash_type")
    return tuple(range(step.axis(step.integer("axis", -1), x.rank), x.rank))


def _layer(step: Step) -> list[Operand]:
    """The normalised input, and what it was normalised with: the mean and the reciprocal deviation."""
    x, scale, bias = step.floating(0), step.input(1), step.optional(2)
    axes = _last_axes(step, x)
    mean = step.emit("reduce_mean", x, axes=axes, keepdims=True)
    centred = step.emit("sub", x, mean)
    deviation = _deviation(step, centred, axes)
    y = step.emit("mul", step.emit("div", centred, deviation), scale)
    return [y if bias is None else step.emit("add", y, bias), mean, step.emit("reciprocal", deviation)]


def _root_mean_square(step: Step) -> Operand:
    x, scale = step.floating(0), step.input(1)
    return step.emit("mul", step.emit("div", x, _deviation(step, x, _last_axes(step, x))), scale)


OPERATORS = (
    Row("BatchNormalization", _batch, 5, 5),
    Row("InstanceNormalization", _instance, 3, 3),
    Row("GroupNormalization", _group, 3, 3),
    Row("LayerNormalization", _layer, 2, 3),
    Row("RMSNormalization", _root_mean_square, 2, 2),
)
