"""Planning rules for convolutions and linear layers."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from typing import Any

import numpy as np

from sepcore.ir.graph import Array, Graph, Node
from sepcore.kernels import step as words
from sepcore.kernels.conv import dense as dense_rows
from sepcore.kernels.conv import stem as stem_rows
from sepcore.kernels.depthwise import general as general_rows
from sepcore.kernels.depthwise import pack as depthwise_pack
from sepcore.kernels.depthwise import rows as depthwise_rows
from sepcore.kernels.depthwise.rows import Window
from sepcore.kernels.pointwise import pack as pointwise_pack
from sepcore.kernels.pointwise import rows as pointwise_rows
from sepcore.kernels.pointwise import scale as scale_rows
from sepcore.kernels.pointwise.rows import Tile
from sepcore.kernels.winograd import pack as winograd_pack
from sepcore.kernels.winograd import rows as winograd_rows
from sepcore.plan import select
from sepcore.plan.bands import LEAST_CHAINED_BYTES
from sepcore.plan.drafts import Buffer
from sepcore.plan.lowering import Lowering
from sepcore.plan.rules_crossed import crossed
from sepcore.plan.select import Choice
from sepcore.plan.split import row_and_panel_blocks, row_blocks
from sepcore.plan.tensors import FLOAT, Map, Plain


def resolve_padding(node: Node, height: int, width: int) -> tuple[int, int, int, int]:
    """(top, left, bottom, right) of a convolution; "same" is TensorFlow's: the odd pixel at the bottom and right."""
    padding = node.attrs["padding"]
    if padding != "same":
        top, left, bottom, right = padding
        return top, left, bottom, right
    kernel = node.attrs["_kernel"]
    sides = []
    for size, length, stride, dilation in zip(kernel, (height, width), node.attrs["strides"], node.attrs["dilation"]):
        total = max(0, (-(-length // stride) - 1) * stride + (size - 1) * dilation + 1 - length)
        sides.append((total // 2, total - total // 2))
    (top, bottom), (left, right) = sides
    return top, left, bottom, right


def gathers(graph: Graph, isa: str, node: Node, name: str) -> bool:
    """Whether the rule of ``node`` takes the channels of the map ``name`` from anywhere."""
    if node.op != "conv2d" or name in node.inputs[1:]:
        return False
    oc, per_group, *size = graph.constants[node.inputs[1]].shape
    groups, strides = node.attrs["groups"], tuple(node.attrs["strides"])
    if groups == 1:
        return size == [1, 1] and strides == (1, 1) and tuple(node.attrs["padding"]) == (0,) * 4
    windows = ([w.size] * 2 == size and (w.stride,) * 2 == strides for w in depthwise_rows.windows(isa))
    return bool(per_group == 1 and groups == oc and tuple(node.attrs["dilation"]) == (1, 1) and any(windows))


def _in_memory_order(x: Map) -> tuple[Map, Array]:
    """The map with its slots sorted, or without where they are next to each other; and which channel each one is."""
    order = np.argsort(x.slots, kind="stable")
    slots = np.array(x.slots)[order]
    if (np.diff(slots) == 1).all():
        return replace(x, slots=(), offset=x.offset + FLOAT * int(slots[0])), order
    return replace(x, slots=tuple(slots.tolist())), order


def is_pointwise(graph: Graph, node: Node) -> bool:
    """Whether the rule of ``node`` is :func:`pointwise` with the map behind its first input."""
    if node.op != "conv2d" or node.inputs[1] not in graph.constants or node.attrs["groups"] != 1:
        return False
    padding = node.attrs["padding"]
    unpadded = padding == "same" or tuple(padding) == (0,) * 4
    ones = graph.constants[node.inputs[1]].shape[2:] == (1, 1) and tuple(node.attrs["strides"]) == (1, 1)
    return unpadded and ones


def conv2d(p: Lowering, node: Node) -> None:
    """Convolution: stem, pointwise, depthwise or the general kernel, whichever fits."""
    weight = p.constant(node.inputs[1])
    bias = p.constant(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else None
    residual = node.inputs[3] if len(node.inputs) > 3 and node.inputs[3] else ""
    oc, _, kh, kw = weight.shape
    node = node.with_attrs(_kernel=(kh, kw))
    _, ic, height, width = p.shape(node.inputs[0])
    padding = resolve_padding(node, height, width)
    strides, groups = tuple(node.attrs["strides"]), node.attrs["groups"]
    square = kh == kw and strides[0] == strides[1] and tuple(node.attrs["dilation"]) == (1, 1)
    if (kh, kw) == (1, 1) and strides == (1, 1) and groups == 1 and not any(padding):
        pointwise(p, node, p.gathered_map(node.inputs[0]), weight.reshape(oc, ic), bias, residual)
        return
    planar = isinstance(p.tensors[node.inputs[0]], Plain)
    if square and groups == 1 and planar and not residual and _stem(p, node, weight, bias, padding):
        return
    if square and groups == ic == oc and not residual and _depthwise(p, node, weight, bias, padding):
        return
    if groups == ic == oc and not residual:
        depthwise_general(p, node, weight, bias, padding)
    else:
        dense(p, node, weight, bias, padding, residual)


def linear(p: Lowering, node: Node) -> None:
    """A linear layer on vectors: a pointwise convolution whose pixels are the images."""
    weight = p.constant(node.inputs[1])
    bias = p.constant(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else None
    x = p.as_map(node.inputs[0])
    if x.pixels != 1:
        raise p.fail(f"expected one vector per image, found a map of {x.height}x{x.width}")
    pointwise(p, node, x, weight, bias, "")


def pointwise(p: Lowering, node: Node, x: Map, weight: Array, bias: Array | None, residual: str) -> None:
    """A product of each pixel's channels, wherever they are, with ``weight``."""
    n, k = weight.shape
    m = x.pixels * p.images
    slots = x.slots
    if not (p.batched or slots):
        choice = select.crossed_tiles(x.pixels, k, n, p.isa.name, p.workers, factors=x.factors is not None)
        if choice:
            crossed(p, node, choice, x, weight, bias, residual)
            return
    if slots:
        x, order = _in_memory_order(x)
        weight = weight[:, order]
    parts: tuple[int, ...] = (n,)
    # A divided layer cannot be in a chain, which wins more.
    if not x.slots and FLOAT * m * max(n, k) < LEAST_CHAINED_BYTES:
        parts = select.column_parts(m, k, n, p.isa.name)
    choices = [(select.gathered_tiles if x.slots else select.pointwise_tiles)(m, k, part, p.isa.name) for part in parts]
    firsts = [sum(parts[:i]) for i in range(len(parts))]
    tiles = [p.pick(choice) for choice in choices]
    # The last panel may store vectors past the padded channels.
    ends = [
        first + pointwise_pack.panels(tile, p.isa.lanes, part) * tile.columns(p.isa.lanes)
        for first, tile, part in zip(firsts, tiles, parts)
    ]
    out = p.new_map(node.output, slack=max(0, max(ends) - p.padded(n)))
    extra = p.as_map(residual) if residual else None
    for first, part, choice in zip(firsts, parts, choices):
        columns = slice(first, first + part)
        _pointwise_step(
            p,
            node,
            choice,
            x,
            weight[columns],
            None if bias is None else bias[columns],
            replace(out, offset=out.offset + FLOAT * first),
            replace(extra, offset=extra.offset + FLOAT * first) if extra else None,
            (node.name, "pointwise", first, *slots),
        )


def _pointwise_step(
    p: Lowering,
    node: Node,
    choice: Choice[Tile],
    x: Map,
    weight: Array,
    bias: Array | None,
    out: Map,
    extra: Map | None,
    key: tuple[Hashable, ...],
) -> None:
    """The step for the output channels of ``weight``, which ``out`` and ``extra`` begin with."""
    n, k = weight.shape
    m, lanes = x.pixels * p.images, p.isa.lanes
    tile = p.pick(choice)
    panels = pointwise_pack.panels(tile, lanes, n)
    layout = (n, tile.vectors, tile.pair, tile.lanes(lanes))
    packed = p.weight((*key, layout), pointwise_pack.pack, weight, bias, tile, lanes)
    scaled = _scaled_weights(p, packed, x.factors, panels, k, tile.packed_columns(lanes)) if x.factors else None
    p.pick(choice)  # for this step: the one that scales weights is none of its rows
    rows, panel_blocks = _pointwise_split(p, m, n, k, tile.rows, panels)
    r = pointwise_rows
    p.step(
        r.row(tile, p.isa.name, gathered=bool(x.slots)),
        rows * panel_blocks,
        {
            r.M: m,
            r.K: k,
            r.X_STRIDE: x.pixel_bytes,
            r.OUT_STRIDE: out.pixel_bytes,
            r.EXTRA_STRIDE: extra.pixel_bytes if extra else 0,
            r.PANELS: panels,
            r.ROW_BLOCKS: rows,
            r.PANEL_BLOCKS: panel_blocks,
            r.PREFETCH_SHIFT: r.NO_PREFETCH,
            **p.activation(node),
        },
        x=x,
        out=out,
        extra=extra,
        weights=None if scaled else packed,
        tables={r.COLUMNS: p.table(FLOAT * np.array([*x.slots, 0], np.int64))} if x.slots else {},
        macs=m * n * k,
        more={words.WEIGHTS: (scaled, 0)} if scaled else None,
    )


def _scaled_weights(p: Lowering, packed: Hashable, factors: Map, panels: int, k: int, columns: int) -> Buffer:
    """Memory for the weights times one factor per input channel, and the step that fills it."""
    out = p.memory(FLOAT * panels * (k + 1) * columns)
    p.forget_choice()
    rows = panels * (k + 1)
    blocks = p.split(rows, 256)
    r = scale_rows
    p.step(
        r.row(p.isa.name),
        blocks,
        {r.ROWS: rows, r.K: k, r.COLUMNS: columns, r.ROW_BLOCKS: blocks},
        x=(Buffer(-3, "weights", out.size, key=packed), 0),
        out=(out, 0),
        extra=factors,
    )
    return out


def _pointwise_split(p: Lowering, m: int, n: int, k: int, rows: int, panels: int) -> tuple[int, int]:
    """Row blocks and panel blocks of a layer of ``m`` pixels by ``n`` output channels."""
    if p.workers == 1 or m * n * k < 20_000:
        return 1, 1
    return row_and_panel_blocks(m, rows, panels, p.workers)


def _depthwise(p: Lowering, node: Node, weight: Array, bias: Array | None, padding: tuple[int, int, int, int]) -> bool:
    x_name = node.inputs[0]
    size, stride = weight.shape[2], node.attrs["strides"][0]
    _, c, _, width = p.shape(x_name)
    out_width = p.shape(node.output)[3]
    top, left, _, _ = padding
    right = max(0, (out_width - 1) * stride + size - left - width)
    choice = select.depthwise_windows(size, stride, (left, right), width, out_width, c, p.isa.name)
    if not choice.rows:
        return False
    window = p.pick(choice)
    # Where the result is to be one of several maps side by side, its channels must be in order.
    x = p.as_map(x_name) if node.output in p.places.homes else p.gathered_map(x_name)
    runs = _runs(x)
    lanes = [p.padded(len(channels)) for _, channels in runs]
    if sum(lanes) > 2 * p.padded(c):
        x = p.as_map(x_name)
    p.zeros(width * x.pixel_bytes)
    if not x.slots:
        _depthwise_step(p, node, window, x, p.new_map(node.output), None, top)
        return True
    out = p.new_map(node.output, slack=sum(lanes) - p.padded(c))
    slots = np.empty(c, np.int64)
    for (part, channels), first in zip(runs, np.cumsum([0, *lanes]).tolist()):
        slots[channels] = first + np.arange(len(channels))
        _depthwise_step(p, node, window, part, replace(out, offset=out.offset + FLOAT * first), channels, top)
    in_order = bool((np.diff(slots) == 1).all())
    p.alias(node.output, out if in_order else replace(out, slots=tuple(slots.tolist())))
    return True


def _runs(x: Map) -> list[tuple[Map, Array]]:
    """The runs of channels of a map that are neighbours in memory, and which channels they are; none if all are."""
    if not x.slots:
        return []
    order = np.argsort(x.slots, kind="stable")
    slots = np.array(x.slots)[order]
    runs = []
    for channels in np.split(order, np.flatnonzero(np.diff(slots) != 1) + 1):
        offset = x.offset + FLOAT * x.slots[channels[0]]
        runs.append((replace(x, slots=(), offset=offset, channels=len(channels)), channels))
    return runs


def _depthwise_step(
    p: Lowering, node: Node, window: Window, x: Map, out: Map, channels: Array | None, top: int
) -> None:
    """The step for all channels of ``x``: those of the layer, or its ``channels``."""
    weight = p.constant(node.inputs[1])
    bias = p.constant(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else None
    key: tuple[Hashable, ...] = (node.name, "depthwise", p.isa.lanes)
    if channels is not None:
        weight, bias = weight[channels], None if bias is None else bias[channels]
        key += tuple(channels.tolist())
    packed = p.weight(key, depthwise_pack.pack, weight, bias, p.isa.lanes)
    count = x.channels
    rows, channel_blocks = row_blocks(out.height, window.rows, p.workers) if p.workers > 1 else 1, 1
    if rows < p.workers:
        rows, channel_blocks = 1, p.split(p.padded(count) // p.isa.lanes, 2)
    r = depthwise_rows
    p.step(
        r.row(window, p.isa.name),
        rows * channel_blocks,
        {
            r.HEIGHT: x.height,
            r.WIDTH: x.width,
            r.OUT_HEIGHT: out.height,
            r.OUT_WIDTH: out.width,
            r.CHANNELS: p.padded(count),
            r.X_PIXEL: x.pixel_bytes,
            r.X_ROW: x.width * x.pixel_bytes,
            r.OUT_PIXEL: out.pixel_bytes,
            r.OUT_ROW: out.width * out.pixel_bytes,
            r.PAD_TOP: top,
            r.ROW_BLOCKS: rows,
            r.CHANNEL_BLOCKS: channel_blocks,
            r.X_RING: x.height,
            **p.activation(node),
        },
        x=x,
        out=out,
        weights=packed,
        macs=out.pixels * count * window.size**2,
        needs_zeros=True,
    )


def _stem(p: Lowering, node: Node, weight: Array, bias: Array | None, padding: tuple[int, int, int, int]) -> bool:
    x = p.tensors[node.inputs[0]]
    assert isinstance(x, Plain)
    oc, ic, size, _ = weight.shape
    stride = node.attrs["strides"][0]
    _, _, height, width = p.shape(node.inputs[0])
    _, _, out_height, out_width = p.shape(node.output)
    top, left, _, _ = padding
    right = max(0, (out_width - 1) * stride + size - left - width)
    choice = select.stem_tiles(size, stride, (left, right), width, out_width, oc, p.isa.name)
    if not choice.rows or ic * size > stem_rows.MAX_ROW_POINTERS:
        return False
    stem = p.pick(choice)
    lanes = p.isa.lanes
    columns = stem.vectors * lanes
    panels = -(-oc // columns)
    out = p.new_map(node.output, slack=max(0, panels * columns - p.padded(oc)))
    packed = p.weight((node.name, "stem", stem.vectors, lanes), stem_rows.pack, weight, bias, stem, lanes)
    p.zeros(width * FLOAT)
    blocks = p.split(out_height, 4)
    r = stem_rows
    p.step(
        r.row(stem, p.isa.name),
        blocks,
        {
            r.HEIGHT: height,
            r.WIDTH: width,
            r.OUT_HEIGHT: out_height,
            r.OUT_WIDTH: out_width,
            r.IN_CHANNELS: ic,
            r.OUT_PIXEL: out.pixel_bytes,
            r.OUT_ROW: out_width * out.pixel_bytes,
            r.PAD_TOP: top,
            r.PANELS: panels,
            r.ROW_BLOCKS: blocks,
            **p.activation(node),
        },
        x=(x.buffer, 0),
        out=out,
        weights=packed,
        macs=out_height * out_width * oc * ic * size * size,
        needs_zeros=True,
    )
    return True


def depthwise_general(
    p: Lowering, node: Node, weight: Array, bias: Array | None, padding: tuple[int, int, int, int]
) -> None:
    x = p.as_map(node.inputs[0])
    out = p.new_map(node.output)
    lanes = p.isa.lanes
    packed = p.weight((node.name, "depthwise", lanes), depthwise_pack.pack, weight, bias, lanes)
    blocks = p.split(out.height, 1)
    r = general_rows
    p.step(
        r.row(p.isa.name),
        blocks,
        {
            r.HEIGHT: x.height,
            r.WIDTH: x.width,
            r.OUT_HEIGHT: out.height,
            r.OUT_WIDTH: out.width,
            r.CHANNELS: p.padded(x.channels),
            r.X_PIXEL: x.pixel_bytes,
            r.X_ROW: x.width * x.pixel_bytes,
            r.OUT_PIXEL: out.pixel_bytes,
            r.OUT_ROW: out.width * out.pixel_bytes,
            r.ROW_BLOCKS: blocks,
            **_window_words(r, node, weight, padding),
            **p.activation(node),
        },
        x=x,
        out=out,
        weights=packed,
        macs=out.pixels * x.channels * weight.shape[2] * weight.shape[3],
    )


def dense(
    p: Lowering,
    node: Node,
    weight: Array,
    bias: Array | None,
    padding: tuple[int, int, int, int],
    residual: str,
) -> None:
    oc, k, kh, kw = weight.shape
    groups, lanes = node.attrs["groups"], p.isa.lanes
    _, _, out_height, out_width = p.shape(node.output)
    m, per_group = out_height * out_width, oc // groups
    by_blocks = None
    if (kh, kw, groups, tuple(node.attrs["strides"]), tuple(node.attrs["dilation"])) == (3, 3, 1, (2, 2), (1, 1)):
        by_blocks = select.winograd_tiles(out_height, out_width, k, oc, p.isa.name)
    tile = p.pick(by_blocks or select.dense_tiles(m, k * kh * kw, per_group, p.isa.name))
    columns = tile.columns(lanes)
    panels = -(-per_group // columns)
    x = p.as_map(node.inputs[0])
    stored = (groups - 1) * per_group + panels * columns
    out = p.new_map(node.output, slack=max(0, stored - p.padded(oc)))
    extra = p.as_map(residual) if residual else None
    p.zeros(FLOAT * k)
    if by_blocks:
        kernel, blocks = winograd_rows.row(tile, p.isa.name), p.split(m // 4 // tile.rows, 1)
        packed = p.weight((node.name, "winograd", tile.vectors, lanes), winograd_pack.pack, weight, bias, tile, lanes)
        p.scratch(winograd_rows.scratch_bytes(tile, lanes, k))
    else:
        kernel, blocks = dense_rows.row(tile, p.isa.name), p.split(m // tile.rows, 1)
        packed = p.weight((node.name, "dense", tile.vectors, lanes), dense_rows.pack, weight, bias, groups, tile, lanes)
        p.scratch(dense_rows.scratch_bytes(tile, kh * kw))
    r = dense_rows
    p.step(
        kernel,
        blocks,
        {
            r.HEIGHT: x.height,
            r.WIDTH: x.width,
            r.OUT_WIDTH: out_width,
            r.M: m,
            r.K: k,
            r.X_PIXEL: x.pixel_bytes,
            r.X_ROW: x.width * x.pixel_bytes,
            r.OUT_PIXEL: out.pixel_bytes,
            r.EXTRA_PIXEL: extra.pixel_bytes if extra else 0,
            r.PANELS: panels,
            r.GROUPS: groups,
            r.OUT_CHANNELS: per_group,
            r.ROW_BLOCKS: blocks,
            r.X_RING: x.height,
            **_window_words(r, node, weight, padding),
            **p.activation(node),
        },
        x=x,
        out=out,
        extra=extra,
        weights=packed,
        macs=m * oc * k * kh * kw,
        needs_zeros=True,
    )


def _window_words(rows: Any, node: Node, weight: Array, padding: tuple[int, int, int, int]) -> dict[int, int]:
    (stride_y, stride_x), (dilation_y, dilation_x) = node.attrs["strides"], node.attrs["dilation"]
    return {
        rows.SIZE_Y: weight.shape[2],
        rows.SIZE_X: weight.shape[3],
        rows.STRIDE_Y: stride_y,
        rows.STRIDE_X: stride_x,
        rows.PAD_TOP: padding[0],
        rows.PAD_LEFT: padding[1],
        rows.DILATION_Y: dilation_y,
        rows.DILATION_X: dilation_x,
    }
