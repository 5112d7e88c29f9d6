"""timm's GhostNet, first version, of any width (Han et al. 2020, table 1).

It must not know how a state dict is chosen for it.
"""

from __future__ import annotations

from functools import partial

from sepcore.models.blocks import SqueezeKind, squeeze_excite
from sepcore.models.conventions import Conventions
from sepcore.models.family import Family, Stage, Variant, timm_preprocess
from sepcore.models.network import Head, Layer, Map, Network
from sepcore.models.timm_layout import keys, pooled_head, squeeze_paths

STAGES = (
    Stage("ghost", stride=1, channels=16, blocks=1),
    Stage("ghost", stride=2, channels=24, blocks=1),
    Stage("ghost", stride=1, channels=24, blocks=1),
    Stage("ghost", stride=2, channels=40, blocks=1),
    Stage("ghost", stride=1, channels=40, blocks=1),
    Stage("ghost", stride=2, channels=80, blocks=1),
    Stage("ghost", stride=1, channels=112, blocks=5),
    Stage("ghost", stride=2, channels=160, blocks=1),
    Stage("ghost", stride=1, channels=160, blocks=4),
)

SQUEEZE = SqueezeKind("relu", "hardsigmoid")
CHANNEL_DIVISOR = 4


def _build(net: Network, variant: Variant) -> Head:
    x = net.conv_bn(net.image(), Layer("conv_stem", "bn1", "act1"), stride=2)
    for index, stage in enumerate(STAGES):
        count = variant.blocks(stage, net.weights.count(f"blocks.{index}"))
        for number in range(count):
            out = variant.channels(index, stage, CHANNEL_DIVISOR) if number == count - 1 else None
            x = _bottleneck(net, x, f"blocks.{index}.{number}", 1 if number else stage.stride, out)
    last = f"blocks.{len(STAGES)}.0"
    x = net.conv_bn(x, Layer(f"{last}.conv", f"{last}.bn1", f"{last}.bn1.act"), kernel=1)
    return pooled_head(net, x, variant, bias=True)


def _bottleneck(net: Network, x: Map, path: str, stride: int, out: int | None) -> Map:
    """Ghost module, strided filter, squeeze-excite, linear ghost module, shortcut (section 3.2)."""
    y = _ghost(net, x, f"{path}.ghost1", linear=False)
    if stride > 1:
        y = net.conv_bn(y, Layer(f"{path}.conv_dw", f"{path}.bn_dw", ""), stride=stride, depthwise=True, linear=True)
    squeeze = squeeze_paths(net, path)
    if squeeze is not None:
        y = squeeze_excite(net, y, squeeze, SQUEEZE, None)
    y = _ghost(net, y, f"{path}.ghost2", linear=True, out=None if out is None else out // 2)
    shortcut = x
    if stride > 1 or x.channels != y.channels:
        at = f"{path}.shortcut"
        shortcut = net.conv_bn(x, Layer(f"{at}.0", f"{at}.1", ""), stride=stride, depthwise=True, linear=True)
        shortcut = net.conv_bn(shortcut, Layer(f"{at}.2", f"{at}.3", ""), kernel=1, out=y.channels, linear=True)
    return net.residual(y, shortcut, f"{path}.add")


def _ghost(net: Network, x: Map, path: str, *, linear: bool, out: int | None = None) -> Map:
    """Half of the channels by a pointwise convolution, the other half by filtering each of those (section 3.1)."""
    primary, cheap = (
        Layer(f"{path}.{part}.0", f"{path}.{part}.1", f"{path}.{part}.2")
        for part in ("primary_conv", "cheap_operation")
    )
    first = net.conv_bn(x, primary, kernel=1, out=out, linear=linear)
    second = net.conv_bn(first, cheap, depthwise=True, linear=linear)
    return Map(net.add("concat", (first.value, second.value), f"{path}.cat", axis=1), 2 * first.channels)


_variant = partial(Variant, preprocess=timm_preprocess(), conventions=Conventions(activation="relu"))

FAMILIES = (
    Family(
        name="timm GhostNet",
        keys=keys("ghost[12]", "conv", "conv_dw", "bn1", "bn_dw", "se", "shortcut"),
        build=_build,
        variants=(
            _variant("ghostnet_050", width=0.5),
            _variant("ghostnet_100", width=1.0),
            _variant("ghostnet_130", width=1.3),
            _variant("ghostnet"),
        ),
    ),
)
