"""How timm spells its EfficientNet and MobileNetV3 classes: ``conv_stem``, ``blocks.STAGE.BLOCK``, one of three heads.

It must not know a family's stages.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from sepcore.models.blocks import SIGMOID_GATE, BlockPaths, SqueezeKind, SqueezePaths, inverted_residual
from sepcore.models.family import Stage, Variant
from sepcore.models.network import Head, Layer, Map, Network
from sepcore.models.weights import Mismatch


def keys(*modules: str) -> str:
    """A regular expression for the start of this layout's keys, in which blocks have these ``modules``."""
    return rf"(conv_stem|conv_head|norm_head|bn[12]|blocks\.\d+\.\d+\.({'|'.join(modules)}))\."


INVERTED_RESIDUAL_KEYS = keys("conv", "conv_dw", "conv_pw", "conv_pwl", "conv_exp", "bn[123]", "se")
UNIVERSAL_KEYS = keys("conv", "conv_exp", "conv_pwl", "bn[12]", "dw_start", "pw_exp", "dw_mid", "pw_proj", "dw_end")


class Place(NamedTuple):
    """Where a block stands: its path, its stage, its stride, and what is known of its shapes beforehand."""

    path: str
    stage: Stage
    stride: int
    kernel: int | None
    out: int | None
    squeeze: SqueezeKind


HeadBuilder = Callable[[Network, Map, Variant], Head]


def build(
    net: Network,
    variant: Variant,
    *,
    stages: tuple[Stage, ...],
    head: HeadBuilder,
    squeeze: SqueezeKind = SIGMOID_GATE,
) -> Head:
    """Add stem, stages and head."""
    x = net.conv_bn(net.image(), _layer("conv_stem", "bn1"), stride=2)
    for index, stage in enumerate(stages):
        count = variant.blocks(stage, net.weights.count(f"blocks.{index}"))
        for number in range(count):
            path, first, last = f"blocks.{index}.{number}", number == 0, number == count - 1
            if first:
                _check_first(net, path, stage)
            stride, kernel = (stage.stride, stage.kernel) if first else (1, None)
            out = variant.channels(index, stage) if last else None
            x = BLOCKS[stage.block](net, x, Place(path, stage, stride, kernel, out, squeeze))
    return head(net, x, variant)


def efficient_head(net: Network, x: Map, variant: Variant) -> Head:
    """Convolution, pooling, classifier; a head without the convolution is told by its keys."""
    convolves = variant.features != 0 if variant.features is not None else "conv_head.weight" in net.weights
    if convolves:
        x = net.conv_bn(x, _layer("conv_head", "bn2"), kernel=1, out=variant.features)
    return net.classifier(net.global_pool(x, "global_pool"), "classifier")


def pooled_head(net: Network, x: Map, variant: Variant, *, bias: bool) -> Head:
    """MobileNetV3's: pooling before the convolution, which has a bias or not and no BatchNorm."""
    x = net.global_pool(x, "global_pool", keepdims=True)
    x = net.conv(x, "conv_head", kernel=1, bias=bias, out=variant.features)
    x = net.activation(x, "act2")
    return _flat_classifier(net, x)


def normed_head(net: Network, x: Map, variant: Variant) -> Head:
    """MobileNetV4's: pooling before the convolution, which has a BatchNorm."""
    x = net.global_pool(x, "global_pool", keepdims=True)
    x = net.conv_bn(x, _layer("conv_head", "norm_head"), kernel=1, out=variant.features)
    return _flat_classifier(net, x)


def _flat_classifier(net: Network, x: Map) -> Head:
    return net.classifier(Map(net.add("flatten", (x.value,), "flatten"), x.channels), "classifier")


def _layer(conv: str, bn: str) -> Layer:
    return Layer(conv, bn, f"{bn}.act")


def _check_first(net: Network, path: str, stage: Stage) -> None:
    """Hold a stage's first block against what sets the family apart."""
    if stage.squeeze is None:
        return
    key = f"{path}.se.conv_reduce.weight"
    if (key in net.weights) != stage.squeeze:
        expected = "a squeeze-excite" if stage.squeeze else "no squeeze-excite"
        raise Mismatch(key, expected, "one" if key in net.weights else "none")


def squeeze_paths(net: Network, path: str) -> SqueezePaths | None:
    """The squeeze-excite ``path.se``, if the block has one."""
    if f"{path}.se.conv_reduce.weight" not in net.weights:
        return None
    se = f"{path}.se"
    return SqueezePaths(f"{se}.pool", f"{se}.conv_reduce", f"{se}.act1", f"{se}.conv_expand", f"{se}.gate")


def _residual_block(
    net: Network, x: Map, place: Place, *, layers: tuple[str | None, str | None, str], linear: bool = True
) -> Map:
    """A block that expands, filters and projects; ``layers`` are the names of its convolutions."""
    numbered = {name: f"bn{number}" for number, name in enumerate(filter(None, layers), 1)}
    expand, depthwise, project = (
        _layer(f"{place.path}.{name}", f"{place.path}.{numbered[name]}") if name else None for name in layers
    )
    assert project is not None
    return inverted_residual(
        net,
        x,
        BlockPaths(place.path, expand, depthwise, squeeze_paths(net, place.path), project),
        place.squeeze,
        stride=place.stride,
        activation=place.stage.activation,
        kernel=place.kernel,
        out=place.out,
        skip=place.stage.skip,
        linear=linear,
    )


def _conv_block(net: Network, x: Map, place: Place) -> Map:
    layer, stage = _layer(f"{place.path}.conv", f"{place.path}.bn1"), place.stage
    y = net.conv_bn(x, layer, stride=place.stride, kernel=place.kernel, out=place.out, activation=stage.activation)
    adds = stage.skip and place.stride == 1 and x.channels == y.channels
    return net.residual(y, x, f"{place.path}.add") if adds else y


def _universal_block(net: Network, x: Map, place: Place) -> Map:
    """Any of the four depthwise and pointwise arrangements (Qin et al. 2024, section 3.1); keys say which."""
    shortcut, stride = x, place.stride
    filters = [name for name in ("dw_start", "dw_mid", "dw_end") if f"{place.path}.{name}.conv.weight" in net.weights]
    striding = next((name for name in ("dw_mid", "dw_start", "dw_end") if name in filters), "dw_mid")
    activation = place.stage.activation

    def depthwise(x: Map, name: str, *, linear: bool) -> Map:
        if name not in (*filters, striding if stride > 1 else ""):
            return x
        layer, own_stride = _pair(f"{place.path}.{name}"), stride if name == striding else 1
        return net.strided_conv_bn(x, layer, stride=own_stride, depthwise=True, activation=activation, linear=linear)

    x = depthwise(x, "dw_start", linear=True)
    x = net.conv_bn(x, _pair(f"{place.path}.pw_exp"), kernel=1, activation=activation)
    x = depthwise(x, "dw_mid", linear=False)
    x = net.conv_bn(x, _pair(f"{place.path}.pw_proj"), kernel=1, out=place.out, linear=True)
    x = depthwise(x, "dw_end", linear=True)
    adds = place.stage.skip and stride == 1 and shortcut.channels == x.channels
    return net.residual(x, shortcut, f"{place.path}.add") if adds else x


def _pair(path: str) -> Layer:
    """timm's ``ConvNormAct``."""
    return Layer(f"{path}.conv", f"{path}.bn", f"{path}.bn.act")


BLOCKS: dict[str, Callable[[Network, Map, Place], Map]] = {
    "ds": partial(_residual_block, layers=(None, "conv_dw", "conv_pw")),
    "dsa": partial(_residual_block, layers=(None, "conv_dw", "conv_pw"), linear=False),
    "ir": partial(_residual_block, layers=("conv_pw", "conv_dw", "conv_pwl")),
    "er": partial(_residual_block, layers=("conv_exp", None, "conv_pwl")),
    "cn": _conv_block,
    "uir": _universal_block,
}
"""timm's kinds of blocks; dsa has an activation at its end, er is a fused inverted residual, uir is MobileNetV4's."""
