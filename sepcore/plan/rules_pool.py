"""Planning rules for pooling over windows: a table says which rows and columns each output meets."""

from __future__ import annotations

import numpy as np

from sepcore.ir.graph import Array, Node
from sepcore.kernels.window import rows as window_rows
from sepcore.plan.lowering import Lowering


def pool(p: Lowering, node: Node) -> None:
    """max_pool2d and avg_pool2d: any window, with PyTorch's ceil mode and divisors."""
    sizes, outs = p.shape(node.inputs[0])[2:], p.shape(node.output)[2:]
    tables = [_windows(node, axis, sizes[axis], outs[axis]) for axis in range(2)]
    divisor = node.attrs.get("divisor")
    if divisor is not None:
        tables[0][:, 2], tables[1][:, 2] = divisor, 1
    _step(p, node, tables, node.attrs["dilation"])


def _windows(node: Node, axis: int, size: int, out: int) -> Array:
    """First input, inputs met and inputs counted of each output along an axis."""
    kernel, stride, dilation = (node.attrs[name][axis] for name in ("kernel", "strides", "dilation"))
    before, after = node.attrs["padding"][axis], node.attrs["padding"][axis + 2]
    taps = np.arange(out)[:, None] * stride - before + np.arange(kernel) * dilation
    inside = (taps >= 0) & (taps < size)
    # What lies beyond the padding, where ceil mode reaches, never counts.
    counts = taps < size + after if node.attrs.get("count_include_pad") else inside
    first = np.take_along_axis(taps, inside.argmax(axis=1)[:, None], axis=1)[:, 0]
    met = inside.sum(axis=1)
    return np.stack([np.where(met > 0, first, 0), met, counts.sum(axis=1)], axis=1)


def adaptive_pool(p: Lowering, node: Node) -> None:
    """adaptive_avg_pool2d and adaptive_max_pool2d: windows of different lengths (PyTorch's bounds)."""
    tables = []
    for size, out in zip(p.shape(node.inputs[0])[2:], p.shape(node.output)[2:]):
        i = np.arange(out)
        first, end = i * size // out, -(-(i + 1) * size // out)
        tables.append(np.stack([first, end - first, end - first], axis=1))
    _step(p, node, tables, (1, 1))


def _step(p: Lowering, node: Node, tables: list[Array], dilation: tuple[int, int]) -> None:
    x = p.as_map(node.inputs[0])
    out = p.new_map(node.output)
    kind = "maximum" if "max" in node.op else "average"
    blocks = p.split(out.height, 1)
    r = window_rows
    p.step(
        r.row(kind, p.isa.name),
        blocks,
        {
            r.OUT_HEIGHT: out.height,
            r.OUT_WIDTH: out.width,
            r.CHANNELS: p.padded(x.channels),
            r.X_PIXEL: x.pixel_bytes,
            r.X_ROW: x.width * x.pixel_bytes,
            r.OUT_PIXEL: out.pixel_bytes,
            r.OUT_ROW: out.width * out.pixel_bytes,
            r.DILATION_Y: dilation[0],
            r.DILATION_X: dilation[1],
            r.ROW_BLOCKS: blocks,
        },
        x=x,
        out=out,
        weights=p.table(np.concatenate(tables).astype(np.int64)),
    )
