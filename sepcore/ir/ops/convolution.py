"""Rows of the convolutions.

It must not know kernels, tiles or layouts other than PyTorch's.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import cast

import numpy as np

from sepcore.ir.graph import Array, Node, Value
from sepcore.ir.ops.activation import activated
from sepcore.ir.ops.attributes import ACTIVATION, COUNT, COUNTS, EDGES, OFFSETS, PADDING
from sepcore.ir.ops.operator import Call, Operator, Shape, Tensor
from sepcore.ir.ops.window import Window, map_size, taps, window_of


def _channels(call: Call, ic: int, weight_ic: int, oc: int) -> None:
    groups = call.attr("groups")
    if ic != weight_ic * groups:
        raise call.error("input x", f"{weight_ic * groups} channels ({groups} groups of {weight_ic})", str(ic))
    if oc % groups:
        raise call.error("input weight", f"output channels divisible by {groups} groups", str(oc))


def _conv2d_window(call: Call) -> Window:
    return window_of(call, map_size(call.shape("x", 4)), map_size(call.shape("weight", 4)))


def _infer_conv2d(call: Call) -> list[Tensor]:
    dtype = call.floating("x", "weight", "bias", "residual")
    n, ic = call.shape("x", 4)[:2]
    oc, weight_ic = call.shape("weight", 4)[:2]
    _channels(call, ic, weight_ic, oc)
    call.expect_shape("bias", (oc,))
    output = (n, oc, *_conv2d_window(call).output)
    call.expect_shape("residual", output)
    return [(output, dtype)]


def _compute_conv2d(
    call: Call, x: Array, weight: Array, bias: Array | None = None, residual: Array | None = None
) -> Array:
    window, groups = _conv2d_window(call), call.attr("groups")
    n, oc, pixels = x.shape[0], weight.shape[0], prod(window.output)
    total: Array = np.zeros((n, groups, oc // groups, pixels))
    for ky, kx, tap in taps(x, window, 0.0):
        total += weight[:, :, ky, kx].reshape(groups, oc // groups, -1) @ tap.reshape(n, groups, -1, pixels)
    total = total.reshape(n, oc, *window.output)
    if bias is not None:
        total = total + bias.reshape(-1, 1, 1)
    return activated(call, total if residual is None else total + residual)


def _conv2d_macs(call: Call, outputs: Sequence[Value]) -> int:
    return prod(cast(Shape, outputs[0].shape)) * prod(call.shape("weight")[1:])


def _static_conv2d(call: Call, outputs: Sequence[Value]) -> Node:
    return call.spelled_out(padding=_conv2d_window(call).padding)


def _transposed_output(call: Call) -> tuple[int, int]:
    (h, w), (kh, kw) = map_size(call.shape("x", 4)), map_size(call.shape("weight", 4))
    (sy, sx), (dy, dx), (extra_y, extra_x) = (call.attr(name) for name in ("strides", "dilation", "output_padding"))
    top, left, bottom, right = call.attr("padding")
    return (
        (h - 1) * sy - top - bottom + (kh - 1) * dy + 1 + extra_y,
        (w - 1) * sx - left - right + (kw - 1) * dx + 1 + extra_x,
    )


def _infer_conv_transpose2d(call: Call) -> list[Tensor]:
    dtype = call.floating("x", "weight", "bias")
    n, ic, h, w = call.shape("x", 4)
    weight_ic, group_oc = call.shape("weight", 4)[:2]
    groups = call.attr("groups")
    if ic != weight_ic or ic % groups:
        raise call.error("input x", f"{weight_ic} channels, divisible by {groups} groups", str(ic))
    call.expect_shape("bias", (group_oc * groups,))
    size = _transposed_output(call)
    if min(size) < 1:
        raise call.error("input x", "maps that the padding leaves something of", f"{h}x{w}, which is too small")
    return [((n, group_oc * groups, *size), dtype)]


def _compute_conv_transpose2d(call: Call, x: Array, weight: Array, bias: Array | None = None) -> Array:
    groups, (oh, ow) = call.attr("groups"), _transposed_output(call)
    (sy, sx), (dy, dx), (top, left, _, _) = (call.attr(name) for name in ("strides", "dilation", "padding"))
    n, ic, h, w = x.shape
    _, group_oc, kh, kw = weight.shape
    oc = group_oc * groups
    reach = max((h - 1) * sy + (kh - 1) * dy + 1, top + oh), max((w - 1) * sx + (kw - 1) * dx + 1, left + ow)
    total: Array = np.zeros((n, oc, *reach))
    for ky in range(kh):
        for kx in range(kw):
            tap = weight[:, :, ky, kx].reshape(groups, ic // groups, group_oc).transpose(0, 2, 1)
            part = (tap @ x.reshape(n, groups, ic // groups, h * w)).reshape(n, oc, h, w)
            y0, x0 = ky * dy, kx * dx
            total[:, :, y0 : y0 + (h - 1) * sy + 1 : sy, x0 : x0 + (w - 1) * sx + 1 : sx] += part
    total = total[:, :, top : top + oh, left : left + ow]
    return activated(call, total if bias is None else total + bias.reshape(-1, 1, 1))


def _conv_transpose2d_macs(call: Call, outputs: Sequence[Value]) -> int:
    return prod(call.shape("x")) * prod(call.shape("weight")[1:])


_STRIDES, _DILATION, _GROUPS = COUNTS.with_default((1, 1)), COUNTS.with_default((1, 1)), COUNT.with_default(1)

OPERATORS = (
    Operator(
        "conv2d",
        ("x", "weight", "bias?", "residual?"),
        _infer_conv2d,
        _compute_conv2d,
        {
            "strides": _STRIDES,
            "padding": PADDING.with_default((0, 0, 0, 0)),
            "dilation": _DILATION,
            "groups": _GROUPS,
            "activation": ACTIVATION,
        },
        macs=_conv2d_macs,
        foldable=False,
        static=_static_conv2d,
    ),
    Operator(
        "conv_transpose2d",
        ("x", "weight", "bias?"),
        _infer_conv_transpose2d,
        _compute_conv_transpose2d,
        {
            "strides": _STRIDES,
            "padding": EDGES.with_default((0, 0, 0, 0)),
            "output_padding": OFFSETS.with_default((0, 0)),
            "dilation": _DILATION,
            "groups": _GROUPS,
            "activation": ACTIVATION,
        },
        macs=_conv_transpose2d_macs,
        foldable=False,
    ),
)
