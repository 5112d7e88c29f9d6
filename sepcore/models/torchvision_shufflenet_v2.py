"""torchvision's ShuffleNetV2, of any width (Ma et al. 2018, figure 3 and table 5).

It must not know how a state dict is chosen for it.
"""

from __future__ import annotations

from functools import partial

from sepcore.image.preprocess import Preprocess
from sepcore.models.conventions import Conventions
from sepcore.models.family import Family, Stage, Variant
from sepcore.models.network import Head, Layer, Map, Network
from sepcore.models.torchvision_layout import triple
from sepcore.models.weights import Mismatch

STAGES = (
    Stage("shuffle", stride=2, channels=116, blocks=4),
    Stage("shuffle", stride=2, channels=232, blocks=8),
    Stage("shuffle", stride=2, channels=464, blocks=4),
)


def _build(net: Network, variant: Variant) -> Head:
    x = net.conv_bn(net.image(), triple("conv1"), stride=2)
    pooled = net.add("max_pool2d", (x.value,), "maxpool", kernel=(3, 3), strides=(2, 2), padding=(1, 1, 1, 1))
    x = Map(pooled, x.channels)
    for index, stage in enumerate(STAGES):
        name = f"stage{index + 2}"
        x = _downsampling(net, x, f"{name}.0", stage.stride)
        for number in range(1, net.weights.count(name)):
            x = _basic(net, x, f"{name}.{number}")
        expected = variant.channels(index, stage)
        if expected not in (None, x.channels):
            raise Mismatch(f"{name}.0.branch2.5.weight", f"{expected} channels in two branches", str(x.channels))
    x = net.conv_bn(x, triple("conv5"), kernel=1)
    return net.classifier(net.global_pool(x, "mean"), "fc")


def _basic(net: Network, x: Map, path: str) -> Map:
    """Half of the channels pass by, the other half are filtered."""
    if x.channels % 2:
        raise Mismatch(f"{path}.branch2.0.weight", "an even number of channels before it", str(x.channels))
    passing, filtered = net.split(x, f"{path}.chunk", (x.channels // 2,) * 2)
    return _shuffled(net, path, passing, _branch2(net, filtered, path, 1, x.channels // 2))


def _downsampling(net: Network, x: Map, path: str, stride: int) -> Map:
    """Both branches see all channels."""
    left = net.conv_bn(
        x, Layer(f"{path}.branch1.0", f"{path}.branch1.1", ""), stride=stride, depthwise=True, linear=True
    )
    left = net.conv_bn(left, Layer(f"{path}.branch1.2", f"{path}.branch1.3", f"{path}.branch1.4"), kernel=1)
    return _shuffled(net, path, left, _branch2(net, x, path, stride, left.channels))


def _branch2(net: Network, x: Map, path: str, stride: int, out: int) -> Map:
    at = f"{path}.branch2"
    x = net.conv_bn(x, triple(at), kernel=1)
    x = net.conv_bn(x, Layer(f"{at}.3", f"{at}.4", ""), stride=stride, depthwise=True, linear=True)
    return net.conv_bn(x, Layer(f"{at}.5", f"{at}.6", f"{at}.7"), kernel=1, out=out)


def _shuffled(net: Network, path: str, left: Map, right: Map) -> Map:
    both = net.add("concat", (left.value, right.value), f"{path}.cat", axis=1)
    return Map(net.add("channel_shuffle", (both,), f"{path}.shuffle", groups=2), left.channels + right.channels)


_variant = partial(Variant, conventions=Conventions(activation="relu"))

FAMILIES = (
    Family(
        name="torchvision ShuffleNetV2",
        keys=r"conv[15]\.\d\.|stage[234]\.\d+\.branch[12]\.\d\.",
        build=_build,
        variants=(
            _variant("shufflenet_v2_x0_5", Preprocess(), stage_channels=(48, 96, 192)),
            _variant("shufflenet_v2_x1_0", Preprocess(), stage_channels=(116, 232, 464)),
            _variant("shufflenet_v2_x1_5", Preprocess(resize=232), stage_channels=(176, 352, 704)),
            _variant("shufflenet_v2_x2_0", Preprocess(resize=232), stage_channels=(244, 488, 976)),
            _variant("shufflenet_v2", Preprocess()),
        ),
        overrides=("activation", "bn_eps", "leaky_slope"),
    ),
)
