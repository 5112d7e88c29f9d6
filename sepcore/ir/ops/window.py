"""Arithmetic of sliding windows, shared by convolution and pooling.

It must not know what is done with a window.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from sepcore.ir.graph import Array
from sepcore.ir.ops.operator import Call, Shape

Pair = tuple[int, int]
Edges = tuple[int, int, int, int]


@dataclass(frozen=True)
class Window:
    """A sliding window over maps of one size: everything as (y, x), the padding as (top, left, bottom, right)."""

    kernel: Pair
    strides: Pair
    dilation: Pair
    padding: Edges
    output: Pair


def same_padding(size: Pair, kernel: Pair, strides: Pair, dilation: Pair, *, lower: bool) -> Edges:
    """The padding that gives ceil(size / stride) outputs; the odd element goes to the end, or to the start (``lower``).

    Source: TensorFlow's "SAME" rule; ``lower`` is ONNX's SAME_LOWER.
    """
    starts, ends = [], []
    for length, k, stride, step in zip(size, kernel, strides, dilation):
        total = max((-(-length // stride) - 1) * stride + (k - 1) * step + 1 - length, 0)
        starts.append(total - total // 2 if lower else total // 2)
        ends.append(total - starts[-1])
    return starts[0], starts[1], ends[0], ends[1]


def window_of(call: Call, size: Pair, kernel: Pair, *, ceil_mode: bool = False) -> Window:
    """The window of a convolution or pooling over maps of ``size``.

    Raises
    ------
    GraphError
        If no window fits.
    """
    strides, dilation, padding = call.attr("strides"), call.attr("dilation"), call.attr("padding")
    if isinstance(padding, str):
        padding = same_padding(size, kernel, strides, dilation, lower=padding == "same_lower")
    output = tuple(
        _count(size[i], kernel[i], strides[i], dilation[i], padding[i], padding[i + 2], ceil_mode) for i in range(2)
    )
    if min(output) < 1:
        raise call.error(
            "input x",
            f"maps on which a {kernel[0]}x{kernel[1]} window fits (dilation {dilation}, padding {padding})",
            f"{size[0]}x{size[1]}, which is too small",
        )
    return Window(kernel, strides, dilation, padding, (output[0], output[1]))


def _count(length: int, kernel: int, stride: int, dilation: int, before: int, after: int, ceil_mode: bool) -> int:
    """Windows along one axis. In ceil mode the last one must start inside the map or its leading padding (PyTorch)."""
    room = length + before + after - dilation * (kernel - 1) - 1
    if room < 0:
        return 0
    if not ceil_mode:
        return room // stride + 1
    count = -(-room // stride) + 1
    return count - 1 if (count - 1) * stride >= length + before else count


def padded(x: Array, window: Window, fill: float) -> Array:
    """``x`` (n, c, h, w) with ``fill`` around it, as far as any tap of the window reaches (ceil mode reaches far)."""
    top, left, *_ = window.padding
    reach = [
        (out - 1) * stride + (kernel - 1) * step + 1
        for out, stride, kernel, step in zip(window.output, window.strides, window.kernel, window.dilation)
    ]
    n, c, h, w = x.shape
    result = np.full((n, c, max(reach[0], top + h), max(reach[1], left + w)), fill, x.dtype)
    result[:, :, top : top + h, left : left + w] = x
    return result


class Tap(NamedTuple):
    """One element of the kernel and the inputs it meets, one per output position."""

    ky: int
    kx: int
    x: Array


def taps(x: Array, window: Window, fill: float) -> Iterator[Tap]:
    """For each element of the kernel, what of ``x`` (n, c, h, w) it meets: (n, c, oy, ox)."""
    x = padded(x, window, fill)
    (oh, ow), (sy, sx), (dy, dx) = window.output, window.strides, window.dilation
    for ky in range(window.kernel[0]):
        for kx in range(window.kernel[1]):
            y0, x0 = ky * dy, kx * dx
            yield Tap(ky, kx, x[:, :, y0 : y0 + (oh - 1) * sy + 1 : sy, x0 : x0 + (ow - 1) * sx + 1 : sx])


def map_size(shape: Shape) -> Pair:
    """Height and width of (n, c, h, w)."""
    return shape[2], shape[3]
