"""Convolutions.

It must not know kernels. Those over one axis become convolutions over maps of height one.
"""

from __future__ import annotations

from sepcore.formats.torch_export.call import AtenCall, Operand, UnsupportedError, Value
from sepcore.formats.torch_export.ops.lengths import known_length
from sepcore.formats.torch_export.ops.row import Rows


def _sizes(call: AtenCall, name: str, default: int, rank: int) -> tuple[int, int]:
    """An argument with one number per axis of the map, or one for all, as (y, x)."""
    given = call.integers(name, (default,)) or (default,)
    if len(given) not in (1, rank - 2):
        raise call.error(f"argument '{name}'", f"{rank - 2} integers", str(given))
    return (given[0], given[-1]) if rank == 4 else (0 if name.endswith("padding") else 1, given[-1])


def _same_padding(weight: Operand, dilation: tuple[int, int]) -> tuple[int, int, int, int]:
    """PyTorch's padding='same': the odd element goes to the end; strides are one."""
    kernel = [known_length(weight, axis) for axis in range(2, weight.rank)]
    totals = [step * (k - 1) for step, k in zip(dilation[-len(kernel) :], kernel)]
    top, bottom = (totals[0] // 2, totals[0] - totals[0] // 2) if len(totals) == 2 else (0, 0)
    return top, totals[-1] // 2, bottom, totals[-1] - totals[-1] // 2


def _padding(call: AtenCall, weight: Operand, dilation: tuple[int, int]) -> tuple[int, int, int, int]:
    """(top, left, bottom, right)."""
    word = call.raw("padding")
    if not isinstance(word, str):
        y, x = _sizes(call, "padding", 0, weight.rank)
        return y, x, y, x
    if word == "valid":
        return 0, 0, 0, 0
    if word != "same" or set(_sizes(call, "stride", 1, weight.rank)) != {1}:
        raise call.error("argument 'padding'", "'valid', or 'same' with strides of 1", repr(word))
    return _same_padding(weight, dilation)


def _convolution(call: AtenCall, *, transposed: bool) -> Value:
    x, weight, bias = call.operand("input"), call.operand("weight"), call.optional("bias")
    if weight.rank not in (3, 4):
        raise UnsupportedError(f"a convolution over {weight.rank - 2} axes")
    if x.rank != weight.rank:
        raise UnsupportedError(f"an input of {x.rank} axes, not (n, c, ...)")
    dilation = _sizes(call, "dilation", 1, weight.rank)
    attrs = {
        "strides": _sizes(call, "stride", 1, weight.rank),
        "padding": _padding(call, weight, dilation),
        "dilation": dilation,
        "groups": call.integer("groups", 1),
    }
    op = "conv2d"
    if transposed:
        op, attrs["output_padding"] = "conv_transpose2d", _sizes(call, "output_padding", 0, weight.rank)
    if weight.rank == 4:
        return call.emit(op, x, weight, bias, **attrs)
    maps = [call.emit("unsqueeze", value, axes=(2,)) for value in (x, weight)]
    return call.emit("squeeze", call.emit(op, *maps, bias, **attrs), axes=(2,))


def _plain(call: AtenCall) -> Value:
    return _convolution(call, transposed=False)


def _transposed(call: AtenCall) -> Value:
    return _convolution(call, transposed=True)


def _either(call: AtenCall) -> Value:
    return _convolution(call, transposed=call.flag("transposed"))


OPERATORS: Rows = {
    "aten.conv1d.default": _plain,
    "aten.conv1d.padding": _plain,
    "aten.conv2d.default": _plain,
    "aten.conv2d.padding": _plain,
    "aten.conv_transpose1d.default": _transposed,
    "aten.conv_transpose2d.input": _transposed,
    "aten.convolution.default": _either,
}
