"""Merges convolutions, and normalisations, that read one map and are added up: the branches of a network as trained.

It must not merge what would make the window larger than that of the largest branch, nor what is read elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from sepcore.ir.graph import Array, Graph, Node
from sepcore.ir.ops import operator_of
from sepcore.passes.fold_batch_norm import scale_and_offset
from sepcore.passes.merge_scale import absorbing
from sepcore.passes.rewrite import Rewrite, replaced, to_fixed_point


class _Kernel(NamedTuple):
    """Weight (oc, ic / groups, kh, kw) and bias (oc,) of a branch, as float64."""

    weight: Array
    bias: Array


@to_fixed_point
def merge_branches(graph: Graph) -> Graph:
    """Make an ``add`` of two convolutions of one value, or of one and a ``batch_norm``, a single convolution.

    Source: Ding et al., RepVGG, 2021, section 3.3; Vasu et al., MobileOne, 2023, section 3.
    """
    return replaced(graph, _match)


def _match(rewrite: Rewrite, node: Node) -> Node | None:
    if node.op != "add" or node.attrs.get("activation") is not None:
        return None
    for first, second in (node.inputs, node.inputs[::-1]):
        conv = absorbing(rewrite, first, "conv2d")
        if conv is None:
            continue
        other = absorbing(rewrite, second, "conv2d") or rewrite.sole_producer(second, "batch_norm")
        if other is None or other is conv or other.inputs[0] != conv.inputs[0]:
            continue
        added = _normalised(rewrite, conv, other) if other.op == "batch_norm" else _moved(rewrite, conv, other)
        if added is not None:
            return _merged(rewrite, conv, added, node)
    return None


def _merged(rewrite: Rewrite, conv: Node, added: _Kernel, follower: Node) -> Node:
    weight, bias = _kernel(rewrite, conv)
    dtype = rewrite.constants[conv.inputs[1]].dtype
    names = (
        rewrite.add_constant(f"{conv.name}.weight", (weight + added.weight).astype(dtype)),
        rewrite.add_constant(f"{conv.name}.bias", (bias + added.bias).astype(dtype)),
    )
    return conv.with_(inputs=(conv.inputs[0], *names), outputs=follower.outputs)


def _kernel(rewrite: Rewrite, conv: Node) -> _Kernel:
    weight = rewrite.constants[conv.inputs[1]].astype(np.float64)
    bias = rewrite.constants[conv.inputs[2]].astype(np.float64) if any(conv.inputs[2:3]) else np.zeros(len(weight))
    return _Kernel(weight, bias)


def _moved(rewrite: Rewrite, conv: Node, other: Node) -> _Kernel | None:
    """The weight of ``other`` as part of a window as large as that of ``conv``; None where it does not fit in there."""
    of_conv, of_other = operator_of(conv).spelled_out(conv).attrs, operator_of(other).spelled_out(other).attrs
    if any(of_conv[key] != of_other[key] for key in ("strides", "dilation", "groups")):
        return None
    kernel = _kernel(rewrite, other)
    window = rewrite.constants[conv.inputs[1]].shape
    if len(kernel.weight) != window[0]:
        return None
    if kernel.weight.shape == window and of_conv["padding"] == of_other["padding"]:
        return kernel
    margins = _margins(window[2:], of_conv, kernel.weight.shape[2:], of_other)
    return None if margins is None else _Kernel(np.pad(kernel.weight, ((0, 0), (0, 0), *margins)), kernel.bias)


def _normalised(rewrite: Rewrite, conv: Node, norm: Node) -> _Kernel | None:
    """A ``batch_norm`` as a convolution of one tap, set in the window of ``conv``."""
    affine = scale_and_offset(rewrite, norm)
    attrs = operator_of(conv).spelled_out(conv).attrs
    oc, group_ic, *window = rewrite.constants[conv.inputs[1]].shape
    if affine is None or attrs["strides"] != (1, 1) or not len(affine[0]) == oc == group_ic * attrs["groups"]:
        return None
    margins = _margins(tuple(window), attrs, (1, 1), {**attrs, "padding": (0, 0, 0, 0)})
    if margins is None:
        return None
    scale, offset = affine
    weight = np.zeros((oc, group_ic, 1, 1))
    weight[np.arange(oc), np.arange(oc) % group_ic, 0, 0] = scale
    return _Kernel(np.pad(weight, ((0, 0), (0, 0), *margins)), offset)


def _margins(
    window: tuple[int, ...], attrs: Mapping[str, Any], inner: tuple[int, ...], inner_attrs: Mapping[str, Any]
) -> tuple[tuple[int, int], ...] | None:
    """Rows and columns of zeros around a window of ``inner`` size that make it one of ``window`` size."""
    padding, inner_padding = attrs["padding"], inner_attrs["padding"]
    if isinstance(padding, str) or isinstance(inner_padding, str) or attrs["dilation"] != (1, 1):
        return None
    margins = []
    for axis in (0, 1):
        before = padding[axis] - inner_padding[axis]
        after = padding[axis + 2] - inner_padding[axis + 2]
        if before < 0 or after < 0 or before + inner[axis] + after != window[axis]:
            return None
        margins.append((before, after))
    return tuple(margins)
