"""Planning rules for products of computed matrices, and for linear layers on tensors of more than two axes."""

from __future__ import annotations

from math import prod

import numpy as np

from sepcore.ir.graph import Node, Value
from sepcore.kernels.matmul import rows as matmul_rows
from sepcore.plan import rules_conv
from sepcore.plan.lowering import Lowering
from sepcore.plan.strided import copy, merged
from sepcore.plan.tensors import FLOAT, Map, View, contiguous, map_shape


def linear(p: Lowering, node: Node) -> None:
    """A linear layer: the rows of its input are the pixels of a pointwise convolution."""
    name, shape = node.inputs[0], p.shape(node.output)
    if len(shape) == 2 and map_shape(p.shape(name)) is not None:
        rules_conv.linear(p, node)
        return
    weight = p.constant(node.inputs[1])
    bias = p.constant(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else None
    rows, (features, inner) = prod(shape[:-1]), weight.shape
    x = p.view(name).reshaped((rows, inner))
    if x is None or (inner > 1 and x.strides[1] != FLOAT) or (rows > 1 and x.strides[0] <= 0):
        x = p.as_plain(name).view().reshaped((rows, inner))
        assert x is not None
    pixels = Map(x.buffer, rows, 1, inner, x.strides[0], x.offset, part=True)
    out = f"{node.output}/rows"
    p.values[out] = Value(out, (1, features, rows, 1), np.dtype(np.float32))
    rules_conv.pointwise(p, node.with_(outputs=(out,)), pixels, weight, bias, "")
    made = p.view(out).permuted((0, 2, 3, 1)).reshaped(shape)
    assert made is not None
    p.alias(node.output, made)


def matmul(p: Lowering, node: Node) -> None:
    """A product of matrices, for each of a batch of them."""
    x, extra = (p.view(name) for name in node.inputs)
    if len(x.shape) == 1:
        x = x.broadcast((1, *x.shape))
    if len(extra.shape) == 1:
        extra = View(extra.buffer, (*extra.shape, 1), (*extra.strides, 0), extra.offset)
    rows, inner, columns = x.shape[-2], x.shape[-1], extra.shape[-1]
    batch = tuple(np.broadcast_shapes(x.shape[:-2], extra.shape[:-2]))
    if columns > 1 and extra.strides[-1] != FLOAT:
        dense = contiguous(p.memory(FLOAT * prod(extra.shape)), extra.shape)
        copy(p, extra, dense)
        extra = dense
    out = contiguous(p.new_plain(node.output).buffer, (*batch, rows, columns))
    axes = merged([_matrix(view, batch) for view in (x, extra, out)])
    r = matmul_rows
    if len(axes) > r.BATCH_AXES:
        raise p.fail(f"{len(axes)} axes of matrices that do not run on: the kernel walks at most {r.BATCH_AXES}")
    units = -(-rows // r.TILE_ROWS) * prod(batch)
    blocks = p.split(units, max(1, 8192 // (inner * columns)))
    shape = {
        r.ROWS: rows,
        r.INNER: inner,
        r.COLUMNS: columns,
        r.X_ROW: x.strides[-2],
        r.X_INNER: x.strides[-1],
        r.EXTRA_ROW: extra.strides[-2],
        r.OUT_ROW: out.strides[-2],
        r.BLOCKS: blocks,
    }
    for i, (length, *strides) in enumerate([(1, 0, 0, 0)] * (r.BATCH_AXES - len(axes)) + list(axes)):
        shape[r.BATCH + i] = length
        shape[r.X_BATCH + i], shape[r.EXTRA_BATCH + i], shape[r.OUT_BATCH + i] = strides
    p.step(
        r.row(p.isa.name),
        blocks,
        shape,
        x=(x.buffer, x.offset),
        out=(out.buffer, out.offset),
        extra=(extra.buffer, extra.offset),
        macs=prod(batch) * rows * inner * columns,
    )


def _matrix(view: View, batch: tuple[int, ...]) -> View:
    """The first element of each matrix of a batch."""
    first = View(view.buffer, view.shape[:-2], view.strides[:-2], view.offset)
    return first.broadcast(batch)
