"""The blocks that the families share: squeeze-excite, separable convolution, inverted residual.

It must not know a family, nor how a state dict's keys are spelled: module paths come from the caller.
"""

from __future__ import annotations

from typing import NamedTuple

from sepcore.models.network import Layer, Map, Network


class SqueezePaths(NamedTuple):
    """Module paths of a squeeze-excite: pooling, reducing convolution, activation, expanding convolution, gate."""

    pool: str
    reduce: str
    act: str
    expand: str
    gate: str


class SqueezeKind(NamedTuple):
    """What a family's squeeze-excite is made of; an activation of None is that of the block around it."""

    activation: str | None
    gate: str


SIGMOID_GATE = SqueezeKind(None, "sigmoid")
"""EfficientNet's squeeze-excite."""


class BlockPaths(NamedTuple):
    """Module paths of an inverted residual block; None for what it does not have."""

    path: str
    expand: Layer | None
    depthwise: Layer | None
    squeeze: SqueezePaths | None
    project: Layer


def squeeze_excite(net: Network, x: Map, paths: SqueezePaths, kind: SqueezeKind, activation: str | None) -> Map:
    """Scale each channel by a gate computed from all channels' means (Hu et al. 2018, section 3)."""
    scale = net.global_pool(x, paths.pool, keepdims=True)
    scale = net.conv(scale, paths.reduce, bias=True, kernel=1)
    scale = net.activation(scale, paths.act, kind.activation or activation)
    scale = net.conv(scale, paths.expand, bias=True, kernel=1, out=x.channels)
    scale = net.activation(scale, paths.gate, kind.gate)
    return Map(net.add("mul", (x.value, scale.value), f"{paths.gate}.mul"), x.channels)


def inverted_residual(
    net: Network,
    x: Map,
    block: BlockPaths,
    squeeze: SqueezeKind = SIGMOID_GATE,
    *,
    stride: int = 1,
    activation: str | None = None,
    kernel: int | None = None,
    out: int | None = None,
    skip: bool = True,
    linear: bool = True,
) -> Map:
    """Expand, filter each channel, gate, project, add what came in (Sandler et al. 2018, section 3.3).

    Parameters
    ----------
    x : (n, c, h, w).
    block : what the block has; without a depthwise layer the expansion carries kernel and stride ("fused").
    squeeze : what its squeeze-excite, if it has one, is made of.
    stride : of the depthwise (or fused) convolution.
    activation : after the expansion and the depthwise convolution; None takes the network's own.
    kernel, out : size of the filter and output channels, where they are known beforehand.
    skip : whether the input is added where shapes allow it.
    linear : whether the projection has no activation.
    """
    shortcut = x
    if block.depthwise is None and block.expand is not None:
        x = net.strided_conv_bn(x, block.expand, stride=stride, kernel=kernel, activation=activation)
    elif block.expand is not None:
        x = net.conv_bn(x, block.expand, kernel=1, activation=activation)
    if block.depthwise is not None:
        x = net.strided_conv_bn(x, block.depthwise, stride=stride, depthwise=True, kernel=kernel, activation=activation)
    if block.squeeze is not None:
        x = squeeze_excite(net, x, block.squeeze, squeeze, activation)
    x = net.conv_bn(x, block.project, kernel=1, out=out, activation=activation, linear=linear)
    if skip and stride == 1 and shortcut.channels == x.channels:
        x = net.residual(x, shortcut, f"{block.path}.add")
    return x
