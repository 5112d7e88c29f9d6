"""timm's MobileOne: branches as in training, merged here, or already merged (Vasu et al. 2023, section 3).

It must not leave a branch in the graph.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sepcore.ir.graph import Array
from sepcore.models.blocks import SqueezeKind, SqueezePaths, squeeze_excite
from sepcore.models.conventions import Conventions
from sepcore.models.family import Family, Stage, Variant, timm_preprocess
from sepcore.models.network import BATCH_NORM_PARTS, Head, Map, Network, batch_norm_tensors

STAGES = (
    Stage("one", stride=2, channels=64, blocks=4),
    Stage("one", stride=2, channels=128, blocks=16),
    Stage("one", stride=2, channels=256, blocks=20),
    Stage("one", stride=2, channels=512, blocks=2),
)

SQUEEZE = SqueezeKind("relu", "sigmoid")


class Kernel(NamedTuple):
    """A convolution's weight and bias in float64: what one or several branches amount to."""

    weight: Array
    bias: Array


def _build(net: Network, variant: Variant) -> Head:
    x = _block(net, net.image(), "stem", 2, depthwise=False)
    for index, stage in enumerate(STAGES):
        count = variant.blocks(stage, net.weights.count(f"stages.{index}"))
        for number in range(count):
            out = variant.channels(index, stage) if number == count - 1 else None
            stride, depthwise = 1 if number else stage.stride, number % 2 == 0
            x = _block(net, x, f"stages.{index}.{number}", stride, depthwise=depthwise, out=out)
    return net.classifier(net.global_pool(x, "head.global_pool"), "head.fc")


def _block(net: Network, x: Map, path: str, stride: int, *, depthwise: bool, out: int | None = None) -> Map:
    merged = f"{path}.reparam_conv"
    if f"{merged}.weight" in net.weights:
        y = net.conv(x, merged, stride=stride, depthwise=depthwise, out=out, bias=True)
    else:
        kernel = _merged(net, x, path, stride, depthwise=depthwise, out=out)
        weight = kernel.weight.astype(np.float32)
        tensors = [
            net.constant(f"{merged}.weight", weight),
            net.constant(f"{merged}.bias", kernel.bias.astype(np.float32)),
        ]
        y = net.convolution(x, merged, weight, tensors, stride=stride, depthwise=depthwise)
    if f"{path}.attn.fc1.weight" in net.weights:
        attn = f"{path}.attn"
        paths = SqueezePaths(f"{attn}.pool", f"{attn}.fc1", f"{attn}.act", f"{attn}.fc2", f"{attn}.gate")
        y = squeeze_excite(net, y, paths, SQUEEZE, None)
    return net.activation(y, f"{path}.act")


def _merged(net: Network, x: Map, path: str, stride: int, *, depthwise: bool, out: int | None) -> Kernel:
    """The sum of a block's branches: convolutions, a 1x1 convolution, and the input itself (section 3.2)."""
    ic = 1 if depthwise else x.channels
    oc = x.channels if depthwise else out
    shape: tuple[int | None, ...] = (oc, ic, None, None)
    branches: list[Kernel] = []
    for number in range(max(net.weights.count(f"{path}.conv_kxk"), 1)):
        branches.append(_folded(net, f"{path}.conv_kxk.{number}", shape))
        shape = branches[0].weight.shape
    oc, _, side, _ = branches[0].weight.shape
    if side > 1:
        branches.append(_centred(_folded(net, f"{path}.conv_scale", (oc, ic, 1, 1)), side))
    if stride == 1 and x.channels == oc:
        identity = np.ones((oc, 1, 1, 1)) if depthwise else np.eye(oc).reshape(oc, oc, 1, 1)
        branches.append(_centred(_scaled(net, f"{path}.identity", identity), side))
    return Kernel(sum((b.weight for b in branches), np.zeros(())), sum((b.bias for b in branches), np.zeros(())))


def _folded(net: Network, path: str, shape: tuple[int | None, ...]) -> Kernel:
    return _scaled(net, f"{path}.bn", net.weights.take(f"{path}.conv.weight", shape))


def _scaled(net: Network, bn: str, weight: Array) -> Kernel:
    """``weight`` with the BatchNorm ``bn`` after it folded in."""
    tensors = batch_norm_tensors(net.weights, bn, weight.shape[0])
    part = dict(zip(BATCH_NORM_PARTS, (tensor.astype(np.float64) for tensor in tensors)))
    scale = part["weight"] / np.sqrt(part["running_var"] + net.conventions.bn_eps)
    return Kernel(weight * scale.reshape(-1, 1, 1, 1), part["bias"] - part["running_mean"] * scale)


def _centred(kernel: Kernel, side: int) -> Kernel:
    """A 1x1 kernel as the middle of one of ``side``."""
    margin = (side // 2, side - 1 - side // 2)
    return Kernel(np.pad(kernel.weight, ((0, 0), (0, 0), margin, margin)), kernel.bias)


def _variant(arch: str, crop_pct: float, stage_channels: tuple[int, ...] | None) -> Variant:
    preprocess = timm_preprocess(crop_pct=crop_pct, interpolation="bilinear")
    return Variant(arch, preprocess, Conventions(activation="relu"), stage_channels=stage_channels)


FAMILIES = (
    Family(
        name="timm MobileOne",
        keys=r"(stem|stages\.\d+\.\d+)\.(conv_kxk|conv_scale|identity|reparam_conv|attn)\.",
        build=_build,
        variants=(
            _variant("mobileone_s0", 0.875, (48, 128, 256, 1024)),
            _variant("mobileone_s1", 0.9, (96, 192, 512, 1280)),
            _variant("mobileone_s2", 0.9, (96, 256, 640, 2048)),
            _variant("mobileone_s3", 0.9, (128, 320, 768, 2048)),
            _variant("mobileone_s4", 0.9, (192, 448, 896, 2048)),
            _variant("mobileone", 0.9, None),
        ),
        overrides=("activation", "bn_eps", "leaky_slope"),
    ),
)
