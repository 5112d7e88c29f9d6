"""Planning rules for arithmetic, activations, pooling over a map, and operators that only rename memory."""

from __future__ import annotations

from sepcore.ir.graph import Node
from sepcore.kernels.activation import codes
from sepcore.kernels.elementwise import rows as elementwise_rows
from sepcore.kernels.pool import rows as pool_rows
from sepcore.plan.lowering import Lowering, Map, activation_words


def global_average_pool(p: Lowering, node: Node) -> None:
    """The mean over a map's pixels."""
    if tuple(sorted(a % 4 for a in node.attrs["axes"])) != (2, 3):
        raise p.fail(f"axes {node.attrs['axes']}: only the mean over height and width has a kernel")
    x = p.as_map(node.inputs[0])
    out = p.new_map(node.output)
    r = pool_rows
    blocks = p.split(p.padded(x.channels) // p.isa.lanes, 4)
    p.step(
        r.row(p.isa.name),
        blocks,
        {r.PIXELS: x.pixels, r.CHANNELS: p.padded(x.channels), r.X_PIXEL: x.pixel_bytes, r.CHANNEL_BLOCKS: blocks},
        x=x,
        out=out,
        macs=0,
    )


def activation(p: Lowering, node: Node) -> None:
    """An activation that stands alone."""
    parameters = {"clamp": ("lo", "hi"), "leaky_relu": ("slope",), "hardsigmoid": ("alpha", "beta")}.get(node.op, ())
    encoded = codes.encode((node.op, *(node.attrs[a] for a in parameters)))
    if encoded is None:
        raise p.fail("no kernel computes this activation")
    x = p.as_map(node.inputs[0])
    _elementwise(p, node, "first", x, x, 0, activation_words(encoded))


def binary(p: Lowering, node: Node) -> None:
    """Arithmetic on two maps, or on a map and one value per channel."""
    name = {"add": "add", "sub": "sub", "mul": "mul", "div": "div", "maximum": "maximum", "minimum": "minimum"}[node.op]
    first, second = node.inputs
    commutes = name in ("add", "mul", "maximum", "minimum")
    if p.shape(first) != p.shape(node.output) and commutes:
        first, second = second, first
    if p.shape(first) != p.shape(node.output):
        raise p.fail(f"shapes {p.shape(first)} and {p.shape(second)}: the first operand may not be broadcast")
    x, extra = p.as_map(first), p.as_map(second)
    if extra.channels != x.channels or extra.pixels not in (1, x.pixels):
        raise p.fail(f"shapes {p.shape(first)} and {p.shape(second)}: no kernel broadcasts this way")
    extra_pixel = extra.pixel_bytes if extra.pixels == x.pixels else 0
    if p.batched and extra_pixel == 0:
        raise p.fail("a per-channel operand cannot be broadcast over a batch of vectors")
    _elementwise(p, node, name, x, extra, extra_pixel, activation_words((codes.LINEAR, 0.0, 0.0)))


def _elementwise(
    p: Lowering, node: Node, operation: str, x: Map, extra: Map, extra_pixel: int, words: dict[int, int]
) -> None:
    if p.only_consumer(node.inputs[0]) and p.tensors.get(node.inputs[0]) is x and x.batched == p.batched:
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


def rename(p: Lowering, node: Node) -> None:
    """flatten, reshape, squeeze ... of a map of one pixel: the same memory under another name."""
    x = p.as_map(node.inputs[0])
    shape = p.shape(node.output)
    if x.pixels != 1 or len(shape) not in (2, 4) or shape[1] != x.channels:
        raise p.fail(f"{p.shape(node.inputs[0])} to {shape}: only vectors can be renamed without a copy")
    p.alias(node.output, x)
