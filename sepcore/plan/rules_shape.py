"""Planning rules for operators that rename, move or repeat elements: where strides can say it, nothing is moved."""

from __future__ import annotations

from math import prod

import numpy as np

from sepcore.ir.graph import Array, Node
from sepcore.kernels.resize import rows as resize_rows
from sepcore.plan.lowering import Lowering
from sepcore.plan.strided import copy, fill
from sepcore.plan.tensors import FLOAT, Map, View, contiguous, map_shape


def is_map(p: Lowering, name: str) -> bool:
    """Whether a value is a map or a view of one: its channels are next to each other."""
    tensor = p.tensors.get(name)
    if isinstance(tensor, View):
        return map_shape(tensor.shape) is not None and tensor.shape[1] > 1 and tensor.strides[1] == FLOAT
    return isinstance(tensor, Map)


def new_tensor(p: Lowering, name: str, like: str) -> View:
    """Memory for the value ``name``: a map where it can be one and ``like`` is one, else in PyTorch's layout.

    One channel alone is no map: each number would take as much memory as the lanes, and functions read dense rows.
    Where PyTorch's layout would have ``like``, of the same shape, gathered element by element, its order is kept.
    """
    shape = p.shape(name)
    size = map_shape(shape)
    if size is not None and is_map(p, like) and (size[0] > 1 or size[1:] == (1, 1)):
        return p.new_map(name).view(shape)
    x = p.tensors.get(like)
    if isinstance(x, View) and x.shape == shape and _is_gathered(x, p.isa.lanes):
        return _in_order_of(p, name, x)
    return p.new_plain(name).view()


def _is_gathered(x: View, lanes: int) -> bool:
    """Whether the innermost axis is not dense, and another one is, which fills a vector."""
    axes = [(length, stride) for length, stride in zip(x.shape, x.strides) if length > 1]
    dense = any(stride == FLOAT and length >= lanes for length, stride in axes)
    return dense and axes[-1][1] not in (0, FLOAT)


def _in_order_of(p: Lowering, name: str, x: View) -> View:
    """Dense memory whose axes lie in the order of those of ``x``."""
    order = sorted(range(len(x.shape)), key=lambda axis: -abs(x.strides[axis]) if x.shape[axis] > 1 else -(1 << 62))
    # Behind it as much as lets it be read as a map, whose last pixel has channels up to the lanes.
    buffer = p.memory(FLOAT * (prod(x.shape) + p.isa.lanes))
    made = contiguous(buffer, tuple(x.shape[axis] for axis in order))
    made = made.permuted([order.index(axis) for axis in range(len(order))])
    p.alias(name, made)
    return made


def identity(p: Lowering, node: Node) -> None:
    """The same memory under another name; a constant gets memory of its own."""
    name = node.inputs[0]
    p.alias(node.output, p.tensors.get(name) or p.view(name))


def reshape(p: Lowering, node: Node) -> None:
    """The same elements in the same order."""
    name, shape = node.inputs[0], p.shape(node.output)
    x = p.tensors.get(name)
    if isinstance(x, Map) and x.pixels == 1 and map_shape(shape) == (x.channels, 1, 1):
        p.alias(node.output, x)
        return
    view, part = p.view(name), _part_of_concat(p, node.output)
    reshaped = view.reshaped(shape)
    if reshaped is None and part is not None and (there := part.reshaped(view.shape)) is not None:
        copy(p, view, there)
        reshaped = part
    p.alias(node.output, reshaped or _reshaped(p.as_plain(name).view(), shape))


def _reshaped(plain: View, shape: tuple[int, ...]) -> View:
    view = plain.reshaped(shape)
    assert view is not None  # contiguous memory has any shape
    return view


def _part_of_concat(p: Lowering, name: str) -> View | None:
    """Where the concat that alone reads a value puts it in PyTorch's layout."""
    readers = p.consumers.get(name, ())
    if len(readers) != 1 or readers[0].op != "concat" or name in p.graph.outputs:
        return None
    node = readers[0]
    if map_shape(p.shape(node.output)) is not None or node.inputs.count(name) != 1:
        return None
    out = p.view(node.output) if node.output in p.tensors else p.new_plain(node.output).view()
    return _parts(p, node, out)[node.inputs.index(name)]


def _parts(p: Lowering, node: Node, out: View) -> list[View]:
    """The part of a concat's output that each input is."""
    axis = node.attrs["axis"]
    sizes = [p.shape(name)[axis] for name in node.inputs]
    return [out.part(axis, sum(sizes[:i]), size) for i, size in enumerate(sizes)]


def transpose(p: Lowering, node: Node) -> None:
    """Axes in another order."""
    p.alias(node.output, p.view(node.inputs[0]).permuted(node.attrs["perm"]))


def expand(p: Lowering, node: Node) -> None:
    """Axes repeated."""
    p.alias(node.output, p.view(node.inputs[0]).broadcast(p.shape(node.output)))


def slice_(p: Lowering, node: Node) -> None:
    """A part of every axis."""
    x = p.view(node.inputs[0])
    for axis, start, step in zip(node.attrs["axes"], node.attrs["starts"], node.attrs["steps"]):
        x = x.part(axis, start, p.shape(node.output)[axis], step)
    p.alias(node.output, x)


def split(p: Lowering, node: Node) -> None:
    """Consecutive parts of an axis."""
    x, first = p.view(node.inputs[0]), 0
    for name, size in zip(node.outputs, node.attrs["sizes"]):
        p.alias(name, x.part(node.attrs["axis"], first, size))
        first += size


def concat(p: Lowering, node: Node) -> None:
    """Each input is copied into its part of the output, unless it was written there."""
    like = next((name for name in node.inputs if is_map(p, name)), node.inputs[0])
    out = p.view(node.output) if node.output in p.tensors else new_tensor(p, node.output, like)
    for name, part in zip(node.inputs, _parts(p, node, out)):
        if p.tensors.get(name) != part:
            copy(p, p.view(name), part)


def channel_shuffle(p: Lowering, node: Node) -> None:
    """Channels (group, index in it) to (index, group)."""
    name, groups = node.inputs[0], node.attrs["groups"]
    x = p.view(name)
    shuffled = x.split(1, groups).permuted((0, 2, 1, 3, 4))
    out = new_tensor(p, node.output, name)
    copy(p, shuffled, out.split(1, x.shape[1] // groups))


def pad(p: Lowering, node: Node) -> None:
    """Elements around every axis, or cut from it: one number, or the tensor's own."""
    pads, mode = node.attrs["pads"], node.attrs["mode"]
    name = node.inputs[0]
    if mode != "constant":
        _pad_with_own(p, node)
        return
    x = p.view(name)
    out = new_tensor(p, node.output, name)
    if any(max(pair) > 0 for pair in pads):
        fill(p, out, node.attrs["value"])
    for axis, (before, after) in enumerate(pads):
        count = x.shape[axis] + min(before, 0) + min(after, 0)
        x = x.part(axis, max(-before, 0), count)
        out = out.part(axis, max(before, 0), count)
    copy(p, x, out)


def _pad_with_own(p: Lowering, node: Node) -> None:
    """Reflected or repeated edges of a map, by a table of which row and column each output is."""
    pads, shape = node.attrs["pads"], p.shape(node.inputs[0])
    if len(pads) != 4 or any(map(any, pads[:2])):
        raise p.fail(f"pads {pads} in mode {node.attrs['mode']!r}: only height and width of a map can be padded so")
    sides = [np.pad(np.arange(shape[axis]), pads[axis], mode=node.attrs["mode"]) for axis in (2, 3)]
    gather_pixels(p, node, sides[0], sides[1])


def gather_pixels(p: Lowering, node: Node, rows: Array, columns: Array) -> None:
    """Each pixel of the output is the pixel of a row and a column of the input."""
    table = p.table(np.concatenate([rows, columns]).astype(np.int64))
    resize_step(p, node, "nearest", table)


def resize_step(p: Lowering, node: Node, mode: str, table: object) -> None:
    """A step of the resizing kernels."""
    x = p.as_map(node.inputs[0])
    out = p.new_map(node.output)
    blocks = p.split(out.height, 2)
    r = resize_rows
    p.step(
        r.row(mode, p.isa.name),
        blocks,
        {
            r.OUT_HEIGHT: out.height,
            r.OUT_WIDTH: out.width,
            r.CHANNELS: p.padded(x.channels),
            r.X_PIXEL: x.pixel_bytes,
            r.X_ROW: x.width * x.pixel_bytes,
            r.OUT_PIXEL: out.pixel_bytes,
            r.OUT_ROW: out.width * out.pixel_bytes,
            r.ROW_BLOCKS: blocks,
        },
        x=x,
        out=out,
        weights=table,
    )
