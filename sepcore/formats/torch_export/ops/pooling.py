"""Poolings of maps.

It must not know kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sepcore.formats.torch_export.call import REQUIRED, AtenCall, Operand, UnsupportedError, Value
from sepcore.formats.torch_export.ops.row import Row, Rows


def _maps(call: AtenCall, name: str = "self") -> Operand:
    x = call.operand(name)
    if x.rank != 4:
        raise UnsupportedError(f"an input of {x.rank} axes, not (n, c, y, x)")
    return x


def _window(call: AtenCall) -> dict[str, Any]:
    y, x = call.pair("padding", (0, 0))
    kernel = call.pair("kernel_size")
    return {
        "kernel": kernel,
        "strides": call.pair("stride", kernel),
        "padding": (y, x, y, x),
        "ceil_mode": call.flag("ceil_mode"),
    }


def _max_pool2d(call: AtenCall) -> Sequence[Value]:
    """The indices, which some variants give as a second output, are not computed."""
    return (call.emit("max_pool2d", _maps(call), **_window(call), dilation=call.pair("dilation", (1, 1))),)


def _avg_pool2d(call: AtenCall) -> Value:
    x = _maps(call)
    if _covers_map(call, x):
        return call.emit("reduce_mean", x, axes=(2, 3), keepdims=True)
    attrs = {**_window(call), "count_include_pad": call.flag("count_include_pad", True)}
    if call.given("divisor_override"):
        attrs["divisor"] = call.integer("divisor_override")
    return call.emit("avg_pool2d", x, **attrs)


def _covers_map(call: AtenCall, x: Operand) -> bool:
    """Whether the kernel is as large as the map, by name: then it may depend on the input."""
    kernel = call.lengths("kernel_size")
    sizes = tuple(length.length if isinstance(length, Operand) else length for length in kernel)
    return any(isinstance(length, Operand) for length in kernel) and (
        sizes == x.shape[2:]
        and call.pair("padding", (0, 0)) == (0, 0)
        and not call.given("divisor_override")
        and call.output.shape[2:] == (1, 1)
    )


def _adaptive(op: str) -> Row:
    def row(call: AtenCall) -> Sequence[Value]:
        return (call.emit(op, _maps(call), output_size=call.pair("output_size")),)

    return row


def _line(op: str) -> Row:
    """A pooling over one axis, as one over maps of height one."""

    def row(call: AtenCall) -> Sequence[Value]:
        x = call.operand("self")
        if x.rank != 3:
            raise UnsupportedError(f"an input of {x.rank} axes, not (n, c, x)")
        if op.startswith("adaptive"):
            attrs: dict[str, Any] = {"output_size": (1, _one(call, "output_size"))}
        else:
            kernel, padding = _one(call, "kernel_size"), _one(call, "padding", 0)
            attrs = {"kernel": (1, kernel), "strides": (1, _one(call, "stride", kernel))}
            attrs |= {"padding": (0, padding, 0, padding), "ceil_mode": call.flag("ceil_mode")}
        if op == "max_pool2d":
            attrs["dilation"] = (1, _one(call, "dilation", 1))
        if op == "avg_pool2d":
            attrs["count_include_pad"] = call.flag("count_include_pad", True)
        return (call.emit("squeeze", call.emit(op, call.emit("unsqueeze", x, axes=(2,)), **attrs), axes=(2,)),)

    return row


def _one(call: AtenCall, name: str, default: Any = REQUIRED) -> int:
    return call.pair(name, default if default is REQUIRED else (default,))[1]


OPERATORS: Rows = {
    "aten.max_pool1d.default": _line("max_pool2d"),
    "aten.avg_pool1d.default": _line("avg_pool2d"),
    "aten.adaptive_avg_pool1d.default": _line("adaptive_avg_pool2d"),
    "aten.max_pool2d.default": _max_pool2d,
    "aten.max_pool2d_with_indices.default": _max_pool2d,
    "aten.avg_pool2d.default": _avg_pool2d,
    "aten.adaptive_avg_pool2d.default": _adaptive("adaptive_avg_pool2d"),
    "aten._adaptive_avg_pool2d.default": _adaptive("adaptive_avg_pool2d"),
    "aten.adaptive_max_pool2d.default": _adaptive("adaptive_max_pool2d"),
}
