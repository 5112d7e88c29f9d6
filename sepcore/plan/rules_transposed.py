"""Planning rule for transposed convolutions: one ordinary convolution for each phase of the stride, no product wasted.

Output row ``stride * j + phase`` meets the taps ky with ``(phase + top - ky * dilation) % stride == 0`` only, and those
meet input rows one apart as j grows: a convolution of stride 1. So it is with columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

import numpy as np

from sepcore.ir.graph import Array, Node, Value
from sepcore.plan import rules_conv
from sepcore.plan.lowering import Lowering
from sepcore.plan.strided import copy
from sepcore.plan.tensors import View


@dataclass(frozen=True)
class _Phase:
    """Along one axis: the taps in the order in which they meet the input, ``padding`` before it, ``dilation`` apart.

    Without ``taps`` the outputs meet nothing.
    """

    first: int
    outputs: int
    taps: tuple[int, ...]
    padding: int
    dilation: int


def conv_transpose2d(p: Lowering, node: Node) -> None:
    """A transposed convolution of any stride, padding, dilation and groups."""
    weight = _as_convolution(p.constant(node.inputs[1]), node.attrs["groups"])
    bias = p.constant(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else None
    sizes, outs = p.shape(node.inputs[0])[2:], p.shape(node.output)[2:]
    phases = [
        _phases(weight.shape[2 + axis], node.attrs["strides"][axis], node.attrs["dilation"][axis],
                node.attrs["padding"][axis], outs[axis], sizes[axis])
        for axis in range(2)
    ]  # fmt: skip
    if len(phases[0]) == len(phases[1]) == 1:
        _convolution(p, node, weight, bias, phases[0][0], phases[1][0], node.output)
        return
    out: View = p.new_map(node.output).view(p.shape(node.output))
    for down in phases[0]:
        for across in phases[1]:
            name = f"{node.output}/{down.first},{across.first}"
            _convolution(p, node, weight, bias, down, across, name)
            part = out.part(2, down.first, down.outputs, node.attrs["strides"][0])
            copy(p, p.view(name), part.part(3, across.first, across.outputs, node.attrs["strides"][1]))


def _as_convolution(weight: Array, groups: int) -> Array:
    """(ic, oc / groups, kh, kw) as an ordinary convolution's (oc, ic / groups, kh, kw)."""
    ic, group_oc, kh, kw = weight.shape
    grouped = weight.reshape(groups, ic // groups, group_oc, kh, kw).transpose(0, 2, 1, 3, 4)
    return np.ascontiguousarray(grouped.reshape(groups * group_oc, ic // groups, kh, kw))


def _phases(kernel: int, stride: int, dilation: int, before: int, out: int, size: int) -> list[_Phase]:
    """The phases of one axis that have outputs; ``before`` is the padding at its start, ``size`` the input's length."""
    found = []
    for first in range(min(stride, out)):
        outputs = -(-(out - first) // stride)
        taps = [k for k in range(kernel) if (first + before - k * dilation) % stride == 0]
        taps.reverse()
        # A phase without taps has one that meets nothing.
        padding = -((first + before - taps[0] * dilation) // stride) if taps else size + outputs
        found.append(_Phase(first, outputs, tuple(taps), padding, dilation // gcd(dilation, stride)))
    return found


def _convolution(
    p: Lowering, node: Node, weight: Array, bias: Array | None, down: _Phase, across: _Phase, name: str
) -> None:
    """The convolution of one phase into the value ``name``."""
    oc, k = weight.shape[:2]
    if down.taps and across.taps:
        taken = np.ascontiguousarray(weight[:, :, down.taps][:, :, :, across.taps])
    else:
        taken = np.zeros((oc, k, 1, 1), np.float32)
    p.values[name] = Value(name, (1, oc, down.outputs, across.outputs), np.dtype(np.float32))
    attrs = {"strides": (1, 1), "dilation": (down.dilation, across.dilation)}
    one = node.with_attrs(**attrs).with_(name=f"{node.name}/{down.first},{across.first}", outputs=(name,))
    padding = (down.padding, across.padding, 0, 0)
    if node.attrs["groups"] == oc and k == 1:
        rules_conv.depthwise_general(p, one, taken, bias, padding)
    else:
        rules_conv.dense(p, one, taken, bias, padding, "")
