"""Merges arithmetic with one number per output channel into the weights and bias before it.

It must not touch a convolution whose output is read elsewhere, or that something already follows inside the node.
"""

from __future__ import annotations

import numpy as np

from sepcore.ir.graph import Array, Graph, Node
from sepcore.ir.ops import operator_of
from sepcore.passes.rewrite import Rewrite, replaced, to_fixed_point

CONVOLUTIONS = ("conv2d", "conv_transpose2d")


@to_fixed_point
def merge_scale(graph: Graph) -> Graph:
    """Merge add, sub, mul and div by a constant per channel into the convolution or linear that they follow."""
    return replaced(graph, _match)


def _match(rewrite: Rewrite, node: Node) -> Node | None:
    if node.op not in ("add", "sub", "mul", "div"):
        return None
    for position in (0, 1):
        product = absorbing(rewrite, node.inputs[position], *CONVOLUTIONS, "linear")
        constant = rewrite.constant(node.inputs[1 - position])
        if product is None or constant is None or constant.dtype.kind != "f":
            continue
        numbers = _per_channel(constant, product.op, output_channels(rewrite, product))
        if numbers is None or (node.op == "div" and (position == 1 or not numbers.all())):
            return None
        return absorbed(rewrite, product, *_scale_and_offset(node.op, numbers, constant_first=position == 1), node)
    return None


def _scale_and_offset(op: str, numbers: Array, *, constant_first: bool) -> tuple[Array, Array]:
    one, zero = np.ones_like(numbers), np.zeros_like(numbers)
    if op == "mul":
        return numbers, zero
    if op == "div":
        return 1 / numbers, zero
    if op == "add":
        return one, numbers
    return (-one, numbers) if constant_first else (one, -numbers)


def _per_channel(constant: Array, op: str, channels: int) -> Array | None:
    """A float64 number per channel, if ``constant`` broadcasts along the channels only and adds no axis."""
    axes_after = 2 if op in CONVOLUTIONS else 0
    most_axes = 4 if op in CONVOLUTIONS else 1
    if constant.ndim > most_axes or constant.size not in (1, channels):
        return None
    shape = (1,) * (most_axes - constant.ndim) + constant.shape
    if shape[most_axes - 1 - axes_after] != constant.size:
        return None
    return np.broadcast_to(constant.astype(np.float64).reshape(-1), (channels,))


def absorbing(rewrite: Rewrite, name: str, *ops: str) -> Node | None:
    """The node of ``ops`` that makes ``name`` and can absorb what follows it.

    Its output has one reader, its weight (and bias) are constants, and neither a residual nor an activation follows in
    the node itself.
    """
    node = rewrite.sole_producer(name, *ops)
    if node is None or node.attrs.get("activation") is not None or any(node.inputs[3:]):
        return None
    constant = all(rewrite.constant(name) is not None for name in node.inputs[1:3] if name)
    return node if constant else None


def output_channels(rewrite: Rewrite, product: Node) -> int:
    """Output channels of a convolution or linear whose weight is constant."""
    shape: tuple[int, ...] = rewrite.constants[product.inputs[1]].shape
    if product.op == "conv_transpose2d":
        groups: int = operator_of(product).attribute(product, "groups")
        return shape[1] * groups
    return shape[0]


def absorbed(rewrite: Rewrite, product: Node, scale: Array, offset: Array, follower: Node) -> Node:
    """``product`` that gives scale * its output + offset under the name of ``follower``'s output.

    Parameters
    ----------
    rewrite : the sweep; takes the new weights.
    product : a node that :func:`absorbing` found.
    scale, offset : float64 (output channels,).
    follower : the node that is replaced.
    """
    weight = rewrite.constants[product.inputs[1]].astype(np.float64)
    dtype = rewrite.constants[product.inputs[1]].dtype
    if product.op == "conv_transpose2d":
        groups = operator_of(product).attribute(product, "groups")
        grouped = weight.reshape(groups, -1, *weight.shape[1:])
        scaled = (grouped * scale.reshape(groups, 1, -1, 1, 1)).reshape(weight.shape)
    else:
        scaled = weight * scale.reshape(-1, *(1,) * (weight.ndim - 1))
    bias = rewrite.constants[product.inputs[2]].astype(np.float64) if any(product.inputs[2:3]) else np.zeros_like(scale)
    names = (
        rewrite.add_constant(f"{product.name}.weight", scaled.astype(dtype)),
        rewrite.add_constant(f"{product.name}.bias", (bias * scale + offset).astype(dtype)),
    )
    return product.with_(inputs=(product.inputs[0], *names), outputs=follower.outputs)
