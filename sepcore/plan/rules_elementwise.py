"""Planning rules for arithmetic and activations of whole maps, and for the mean over a map."""

from __future__ import annotations

from dataclasses import replace

from sepcore.ir.graph import Node
from sepcore.kernels.activation import codes
from sepcore.kernels.elementwise import rows as elementwise_rows
from sepcore.kernels.pool import rows as pool_rows
from sepcore.plan import select
from sepcore.plan.lowering import Lowering, activation_words
from sepcore.plan.rules_conv import is_pointwise
from sepcore.plan.tensors import Map

_OPERATIONS = ("add", "sub", "mul", "div")


def global_average_pool(p: Lowering, node: Node) -> None:
    """The mean over a map's pixels; the depthwise layer before adds up its rows while they are in registers."""
    x = p.as_map(node.inputs[0])
    pixels = x.pixels
    x = p.row_sums_behind(node.inputs[0]) or x
    out = p.new_map(node.output)
    r = pool_rows
    blocks = p.split(p.padded(x.channels) // p.isa.lanes, 4)
    p.step(
        r.row(p.isa.name),
        blocks,
        {
            r.PIXELS: pixels,
            r.ROWS: x.height,
            r.WIDTH: x.width,
            r.CHANNELS: p.padded(x.channels),
            r.X_PIXEL: x.pixel_bytes,
            r.CHANNEL_BLOCKS: blocks,
        },
        x=x,
        out=out,
        macs=0,
    )


def activation(p: Lowering, node: Node, words: dict[int, int]) -> None:
    """An activation of a map that stands alone; ``words`` are its step words."""
    x = p.as_map(node.inputs[0])
    _elementwise(p, node, "first", x, x, 0, words)


def is_of_maps(p: Lowering, node: Node) -> bool:
    """Whether :func:`binary` plans ``node``: two maps of one shape, or a map and then one value per channel."""
    maps = [p.tensors.get(name) for name in node.inputs]
    if node.op not in _OPERATIONS or not all(isinstance(x, Map) and not x.batched for x in maps):
        return False
    first, second = _operands(p, node)
    shape = p.shape(node.output)
    return p.shape(first) == shape and p.shape(second) in (shape, (*shape[:2], 1, 1)[: len(shape)])


def _operands(p: Lowering, node: Node) -> tuple[str, str]:
    first, second = node.inputs
    commutes = node.op in ("add", "mul")
    return (second, first) if commutes and p.shape(first) != p.shape(node.output) else (first, second)


def binary(p: Lowering, node: Node) -> None:
    """Arithmetic on two maps, or on a map and one value per channel."""
    x, extra = map(p.as_map, _operands(p, node))
    if node.op == "mul" and extra.pixels == 1 and _left_to_reader(p, node, x):
        p.alias(node.output, replace(x, factors=extra))
        return
    extra_pixel = extra.pixel_bytes if extra.pixels == x.pixels else 0
    _elementwise(p, node, node.op, x, extra, extra_pixel, activation_words((codes.LINEAR, 0.0, 0.0)))


def _left_to_reader(p: Lowering, node: Node, x: Map) -> bool:
    """Whether the only reader is a pointwise layer that scales pixels anyway, or one of few weights."""
    readers = p.consumers.get(node.output, ())
    if len(readers) != 1 or node.output in p.graph.outputs or node.output in p.places.homes:
        return False
    (reader,) = readers
    if not is_pointwise(p.graph, reader) or reader.inputs[0] != node.output or node.output in reader.inputs[1:]:
        return False
    n, k = p.graph.constants[reader.inputs[1]].shape[:2]
    if not p.batched and select.crossed_tiles(x.pixels, k, n, p.isa.name, factors=True):
        return True
    # Both are read and written once; the weights are also packed with what fills their last panel.
    return 4 * int(n) < 3 * x.pixels


def _elementwise(
    p: Lowering, node: Node, operation: str, x: Map, extra: Map, extra_pixel: int, words: dict[int, int]
) -> None:
    if p.tensors.get(node.inputs[0]) is x and p.only_consumer(node.inputs[0]) and x.batched == p.batched:
        out = x  # in place: nobody else needs the operand
        p.alias(node.output, out)
    else:
        out = p.new_map(node.output)
    pixels = x.pixels * p.images
    blocks = p.split(pixels, 8)
    r = elementwise_rows
    p.step(
        r.row(operation, p.isa.name),
        blocks,
        {
            r.PIXELS: pixels,
            r.CHANNELS: p.padded(x.channels),
            r.X_PIXEL: x.pixel_bytes,
            r.OUT_PIXEL: out.pixel_bytes,
            r.EXTRA_PIXEL: extra_pixel,
            r.PIXEL_BLOCKS: blocks,
            **words,
        },
        x=x,
        out=out,
        extra=extra,
    )
