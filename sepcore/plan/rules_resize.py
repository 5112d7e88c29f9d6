"""Planning rule for the resampling of maps: tables of which input rows and columns make an output's."""

from __future__ import annotations

import numpy as np

from sepcore.ir.graph import Array, Node
from sepcore.kernels.resize import rows as resize_rows
from sepcore.plan.lowering import Lowering
from sepcore.plan.rules_shape import gather_pixels, resize_step


def resize(p: Lowering, node: Node) -> None:
    """Nearest or bilinear, in any system of coordinates."""
    (height, width), (out_height, out_width) = p.shape(node.inputs[0])[2:], p.shape(node.output)[2:]
    scales = node.attrs["scales"] or (None, None)
    sides = [
        (_positions(node, size, out, scale), size)
        for size, out, scale in zip((height, width), (out_height, out_width), scales)
    ]
    if node.attrs["mode"] == "nearest":
        rows, columns = (_nearest(node, position, size) for position, size in sides)
        gather_pixels(p, node, rows, columns)
        return
    entries = []
    for position, size in sides:
        position = np.clip(position, 0, size - 1)
        low = np.floor(position).astype(np.int64)
        entries.append(resize_rows.bilinear_table(low, np.minimum(low + 1, size - 1), position - low))
    resize_step(p, node, "bilinear", p.table(np.concatenate(entries)))


def _positions(node: Node, size: int, out: int, scale: float | None) -> Array:
    """Where each output lies in the input, as a fractional index.

    The ratio of the sizes, where no scale is given, is not rounded before it is used: an index that should be whole is.
    """
    i = np.arange(out, dtype=np.float64)
    coordinate = node.attrs["coordinate"]
    numerator, denominator = (size, out) if scale is None else (1, scale)
    if coordinate == "align_corners":
        return i * ((size - 1) / (out - 1) if out > 1 else 0.0)
    if coordinate == "asymmetric":
        return i * numerator / denominator
    if coordinate == "pytorch_half_pixel" and out == 1:
        return np.zeros(1)
    return (i + 0.5) * numerator / denominator - 0.5


def _nearest(node: Node, position: Array, size: int) -> Array:
    index = {
        "floor": lambda: np.floor(position),
        "ceil": lambda: np.ceil(position),
        "round_prefer_floor": lambda: np.ceil(position - 0.5),
        "round_prefer_ceil": lambda: np.floor(position + 0.5),
    }[node.attrs["nearest_rounding"]]()
    return np.clip(index, 0, size - 1).astype(np.int64)
