"""Row of the resampling of maps.

It must not know images: those are resized before they become a tensor.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from sepcore.ir.graph import Array, Node, Value
from sepcore.ir.ops.attributes import COUNTS, SCALES, one_of
from sepcore.ir.ops.operator import Call, Operator, Tensor
from sepcore.ir.ops.window import Pair, map_size


def output_size(call: Call) -> Pair:
    """The new map's size: the input ``size``, else ``output_size``, else floor(size * scale)."""
    if call.has("size"):
        size = call.integers("size")
        if len(size) != 2 or min(size) < 1:
            raise call.error("input size", "two positive integers (y, x)", str(size))
        return size[0], size[1]
    if call.attr("output_size") is not None:
        given: Pair = call.attr("output_size")
        return given
    if call.attr("scales") is None:
        raise call.error("attributes", "output_size or scales", "neither")
    h, w = (math.floor(length * scale) for length, scale in zip(map_size(call.shape("x", 4)), call.attr("scales")))
    if min(h, w) < 1:
        raise call.error("input x", "maps of which the scales leave something", f"{h}x{w} outputs")
    return h, w


def positions(call: Call) -> tuple[Array, Array]:
    """For each axis of the map, where each output lies in the input, as a fractional index.

    ``scales`` count where they are given, otherwise the ratio of the sizes (PyTorch's and ONNX's rule). That ratio is
    not rounded before it is used, so that an index which should be whole is whole.
    """
    found = []
    sizes, outputs = map_size(call.shape("x", 4)), output_size(call)
    ratios = [(1, scale) for scale in call.attr("scales")] if call.attr("scales") else list(zip(sizes, outputs))
    coordinate = call.attr("coordinate")
    for size, out, (numerator, denominator) in zip(sizes, outputs, ratios):
        i = np.arange(out, dtype=np.float64)
        if coordinate == "align_corners":
            found.append(i * ((size - 1) / (out - 1) if out > 1 else 0.0))
        elif coordinate == "asymmetric":
            found.append(i * numerator / denominator)
        elif coordinate == "pytorch_half_pixel" and out == 1:
            found.append(np.zeros(1))
        else:
            found.append((i + 0.5) * numerator / denominator - 0.5)
    return found[0], found[1]


def _nearest(position: Array, size: int, rounding: str) -> Array:
    if rounding == "floor":
        index = np.floor(position)
    elif rounding == "ceil":
        index = np.ceil(position)
    elif rounding == "round_prefer_floor":
        index = np.ceil(position - 0.5)
    else:
        index = np.floor(position + 0.5)
    return np.clip(index, 0, size - 1).astype(np.int64)


def _bilinear(x: Array, position: Array, axis: int) -> Array:
    last = x.shape[axis] - 1
    position = np.clip(position, 0, last)
    low = np.floor(position).astype(np.int64)
    weight = (position - low).reshape(-1, *(1,) * (x.ndim - axis - 1))
    before, after = np.take(x, low, axis), np.take(x, np.minimum(low + 1, last), axis)
    result: Array = before * (1 - weight) + after * weight
    return result


def _compute(call: Call, x: Array, size: Array | None = None) -> Array:
    for axis, position in zip((2, 3), positions(call)):
        if call.attr("mode") == "nearest":
            x = np.take(x, _nearest(position, x.shape[axis], call.attr("nearest_rounding")), axis)
        else:
            x = _bilinear(x, position, axis)
    return x


def _infer(call: Call) -> list[Tensor]:
    return [((*call.shape("x", 4)[:2], *output_size(call)), call.floating("x"))]


def _static(call: Call, outputs: Sequence[Value]) -> Node:
    return call.spelled_out(output_size=output_size(call)).with_(inputs=call.node.inputs[:1])


OPERATORS = (
    Operator(
        "resize",
        ("x", "size?"),
        _infer,
        _compute,
        {
            "output_size": COUNTS.with_default(None),
            "scales": SCALES.with_default(None),
            "mode": one_of("nearest", "bilinear"),
            "coordinate": one_of("half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel"),
            "nearest_rounding": one_of("floor", "round_prefer_floor", "round_prefer_ceil", "ceil").with_default(
                "floor"
            ),
        },
        static=_static,
    ),
)
