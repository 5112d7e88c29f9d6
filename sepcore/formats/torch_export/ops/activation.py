"""Activation functions.

It must not know which of them a kernel can fuse.
"""

from __future__ import annotations

from sepcore.formats.torch_export.call import AtenCall, UnsupportedError, Value
from sepcore.formats.torch_export.ops.row import Row, Rows


def plain(op: str) -> Row:
    """The graph's operator of one input, computed in the type of the output."""
    return lambda call: call.emit(op, call.cast(call.operand("self"), call.output.dtype))


def _clamp(lo: float, hi: float) -> Row:
    return lambda call: call.emit("clamp", call.operand("self"), lo=lo, hi=hi)


def _hardtanh(call: AtenCall) -> Value:
    lo, hi = float(call.number("min_val", -1.0)), float(call.number("max_val", 1.0))
    return call.emit("clamp", call.operand("self"), lo=lo, hi=hi)


def _leaky_relu(call: AtenCall) -> Value:
    return call.emit("leaky_relu", call.operand("self"), slope=float(call.number("negative_slope", 0.01)))


def _prelu(call: AtenCall) -> Value:
    """The slopes come as (c), or taken apart as (1, c, 1, 1)."""
    slope = call.operand("weight")
    return call.emit("prelu", call.operand("self"), slope if slope.rank == 1 else _flat(call, slope))


def _flat(call: AtenCall, value: Value) -> Value:
    return call.emit("reshape", value, shape=(-1,))


def _scaled(call: AtenCall, value: Value, factor: float) -> Value:
    return value if factor == 1 else call.emit("mul", value, call.constant(factor, call.output.dtype))


def _elu(call: AtenCall) -> Value:
    """scale * (max(0, x) + min(0, alpha * (exp(input_scale * x) - 1)))."""
    if call.number("input_scale", 1) != 1:
        raise UnsupportedError("an input_scale other than 1")
    made = call.emit("elu", call.operand("self"), alpha=float(call.number("alpha", 1.0)))
    return _scaled(call, made, float(call.number("scale", 1)))


def _celu(call: AtenCall) -> Value:
    """alpha * elu(x / alpha)."""
    alpha = float(call.number("alpha", 1.0))
    if alpha == 0:
        raise call.error("argument 'alpha'", "a number other than 0", "0")
    return _scaled(call, call.emit("elu", _scaled(call, call.operand("self"), 1 / alpha), alpha=1.0), alpha)


def _selu(call: AtenCall) -> Value:
    """Source: Klambauer et al. 2017, Self-Normalizing Neural Networks, equation 14."""
    made = call.emit("elu", call.operand("self"), alpha=1.6732632423543772848170429916717)
    return _scaled(call, made, 1.0507009873554804934193349852946)


def _gelu(call: AtenCall) -> Value:
    return call.emit("gelu", call.operand("self"), approximate=call.text("approximate", "none"))


def _softplus(call: AtenCall) -> Value:
    """log(1 + exp(beta * x)) / beta. Beyond ``threshold`` PyTorch gives x, which differs by less than a rounding."""
    beta, threshold = float(call.number("beta", 1)), float(call.number("threshold", 20))
    if beta <= 0 or threshold < 17:
        raise UnsupportedError("a beta that is not positive, or a threshold below 17")
    return _scaled(call, call.emit("softplus", _scaled(call, call.operand("self"), beta)), 1 / beta)


def _log_sigmoid(call: AtenCall) -> tuple[Value, ...]:
    return (call.emit("neg", call.emit("softplus", call.emit("neg", call.operand("self")))),)


def _softmax(op: str) -> Row:
    def row(call: AtenCall) -> Value:
        x = call.operand("self")
        return call.emit(op, call.cast(x, call.output.dtype), axis=call.axis("dim", x.rank))

    return row


def _glu(call: AtenCall) -> Value:
    """The first half of an axis times the sigmoid of the second."""
    x = call.operand("self")
    axis = call.axis("dim", x.rank, -1)
    half = call.output.shape[axis]
    if isinstance(half, str):
        raise UnsupportedError(f"axis {axis} has a length that depends on the input")
    a, b = call.emit_many("split", x, outputs=2, axis=axis, sizes=(half, half))
    return call.emit("mul", a, call.emit("sigmoid", b))


OPERATORS: Rows = {
    **{
        f"aten.{name}.default": plain(name)
        for name in ("relu", "silu", "hardswish", "hardsigmoid", "sigmoid", "tanh", "mish")
    },
    "aten.relu6.default": _clamp(0.0, 6.0),
    "aten.hardtanh.default": _hardtanh,
    "aten.leaky_relu.default": _leaky_relu,
    "aten.prelu.default": _prelu,
    "aten._prelu_kernel.default": _prelu,
    "aten.elu.default": _elu,
    "aten.celu.default": _celu,
    "aten.selu.default": _selu,
    "aten.gelu.default": _gelu,
    "aten.softplus.default": _softplus,
    "aten.log_sigmoid.default": _log_sigmoid,
    "aten.log_sigmoid_forward.default": _log_sigmoid,
    "aten.softmax.int": _softmax("softmax"),
    "aten._softmax.default": _softmax("softmax"),
    "aten.log_softmax.int": _softmax("log_softmax"),
    "aten._log_softmax.default": _softmax("log_softmax"),
    "aten.glu.default": _glu,
}
