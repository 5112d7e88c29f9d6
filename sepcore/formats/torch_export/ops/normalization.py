"""Normalisations; all but that over the batch are taken apart into reductions and arithmetic.

It must not know training: statistics are constants, or those of the input itself.
"""

from __future__ import annotations

import numpy as np

from sepcore.formats.torch_export.call import INT64, AtenCall, Operand, UnsupportedError, Value
from sepcore.formats.torch_export.ops.row import Rows


def _channels(call: AtenCall, name: str, like: Operand, value: float) -> Value:
    """A parameter with one element per channel; ``value`` for all where the file has none."""
    found = call.optional(name)
    return call.emit("constant_of_shape", call.emit("shape", like), value=value) if found is None else found


def _batch(call: AtenCall) -> tuple[Value, ...]:
    x, mean, variance = call.operand("input"), call.optional("running_mean"), call.optional("running_var")
    if mean is None or variance is None:
        return (_own_statistics(call),)
    if call.flag("training"):
        raise UnsupportedError("training mode; export the module after model.eval()")
    scale, bias = _channels(call, "weight", mean, 1.0), _channels(call, "bias", mean, 0.0)
    return (call.emit("batch_norm", x, scale, bias, mean, variance, eps=float(call.number("eps"))),)


def _own_statistics(call: AtenCall) -> Value:
    """With the mean and variance of the batch at hand."""
    x = call.operand("input")
    axes = tuple(axis for axis in range(x.rank) if axis != 1)
    return _scaled(call, x, _normalised(call, x, axes))


def _normalised(call: AtenCall, x: Value, axes: tuple[int, ...]) -> str:
    """(x - mean) / sqrt(variance + eps) over ``axes``."""
    centred = call.emit("sub", x, call.emit("reduce_mean", x, axes=axes, keepdims=True))
    variance = call.emit("reduce_mean", call.emit("mul", centred, centred), axes=axes, keepdims=True)
    eps = call.constant(call.number("eps", 1e-5), call.output.dtype)
    return call.emit("div", centred, call.emit("sqrt", call.emit("add", variance, eps)))


def _scaled(call: AtenCall, x: Operand, normalised: Value) -> Value:
    """times weight (c), plus bias (c), where they are given."""
    for op, name in (("mul", "weight"), ("add", "bias")):
        parameter = call.optional(name)
        if parameter is not None:
            axes = tuple(range(1, x.rank - 1))
            normalised = call.emit(op, normalised, call.emit("unsqueeze", parameter, axes=axes) if axes else parameter)
    return normalised


def _instance(call: AtenCall) -> Value:
    x = call.operand("input")
    if not call.flag("use_input_stats"):
        return _batch(call)[0]
    return _scaled(call, x, _normalised(call, x, tuple(range(2, x.rank))))


def _group(call: AtenCall) -> tuple[Value, ...]:
    x = call.operand("input")
    groups = call.integer("num_groups" if call.given("num_groups") else "group")
    grouped = call.emit("reshape", x, call.constant((0, groups, -1), INT64))
    back = call.emit("reshape", _normalised(call, grouped, (2,)), call.emit("shape", x))
    return (_scaled(call, x, back),)


def _last_axes(call: AtenCall, x: Operand) -> tuple[int, ...]:
    axes = tuple(range(x.rank - len(call.lengths("normalized_shape")), x.rank))
    if not axes or axes[0] < 0:
        raise call.error("argument 'normalized_shape'", f"1 to {x.rank} lengths", str(len(axes)))
    return axes


def _root_mean_square(call: AtenCall) -> tuple[Value, ...]:
    """x / sqrt(mean of squares + eps), times weight where it is given."""
    x = call.operand("input")
    squares = call.emit("reduce_mean", call.emit("mul", x, x), axes=_last_axes(call, x), keepdims=True)
    eps = call.number("eps") if call.given("eps") else float(np.finfo(np.float32).eps)
    root = call.emit("sqrt", call.emit("add", squares, call.constant(eps, call.output.dtype)))
    normalised, weight = call.emit("div", x, root), call.optional("weight")
    return (normalised if weight is None else call.emit("mul", normalised, weight),)


def _layer(call: AtenCall) -> tuple[Value, ...]:
    x = call.operand("input")
    normalised: Value = _normalised(call, x, _last_axes(call, x))
    for op, name in (("mul", "weight"), ("add", "bias")):
        parameter = call.optional(name)
        normalised = normalised if parameter is None else call.emit(op, normalised, parameter)
    return (normalised,)


OPERATORS: Rows = {
    "aten.batch_norm.default": _batch,
    "aten.native_batch_norm.default": _batch,
    "aten._native_batch_norm_legit.default": _batch,
    "aten._native_batch_norm_legit_functional.default": _batch,
    "aten._native_batch_norm_legit_no_training.default": _batch,
    "aten._native_batch_norm_legit.no_stats": lambda call: (_own_statistics(call),),
    "aten.instance_norm.default": _instance,
    "aten.group_norm.default": _group,
    "aten.native_group_norm.default": _group,
    "aten.layer_norm.default": _layer,
    "aten.native_layer_norm.default": _layer,
    "aten.rms_norm.default": _root_mean_square,
    "aten._fused_rms_norm.default": _root_mean_square,
}
