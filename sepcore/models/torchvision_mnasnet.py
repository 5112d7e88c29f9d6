"""torchvision's MNASNet, of any width, with its stem scaled or (its first version) not (Tan et al. 2019, figure 7).

It must not know how a state dict is chosen for it.
"""

from __future__ import annotations

from functools import partial

from sepcore.image.preprocess import Preprocess
from sepcore.models.blocks import BlockPaths, inverted_residual
from sepcore.models.conventions import Conventions
from sepcore.models.family import Family, Stage, Variant
from sepcore.models.network import Head, Layer, Network

STAGES = (
    Stage("ir", stride=2, channels=24, blocks=3),
    Stage("ir", stride=2, channels=40, blocks=3),
    Stage("ir", stride=2, channels=80, blocks=3),
    Stage("ir", stride=1, channels=96, blocks=2),
    Stage("ir", stride=2, channels=192, blocks=4),
    Stage("ir", stride=1, channels=320, blocks=1),
)
FIRST_STAGE = 8
"""Index of the first stage in ``layers``; before it come the stem and a separable convolution, layer by layer."""


def _build(net: Network, variant: Variant) -> Head:
    x = net.conv_bn(net.image(), _layer("layers", 0), stride=2)
    x = net.conv_bn(x, _layer("layers", 3), depthwise=True)
    x = net.conv_bn(x, _layer("layers", 6), kernel=1, linear=True)
    for index, stage in enumerate(STAGES):
        path = f"layers.{FIRST_STAGE + index}"
        count = variant.blocks(stage, net.weights.count(path))
        for number in range(count):
            inner = f"{path}.{number}.layers"
            block = BlockPaths(f"{path}.{number}", _layer(inner, 0), _layer(inner, 3), None, _layer(inner, 6))
            out = variant.channels(index, stage) if number == count - 1 else None
            x = inverted_residual(net, x, block, stride=1 if number else stage.stride, out=out)
    x = net.conv_bn(x, _layer("layers", FIRST_STAGE + len(STAGES)), kernel=1)
    return net.classifier(net.global_pool(x, "avgpool"), "classifier")


def _layer(path: str, index: int) -> Layer:
    return Layer(f"{path}.{index}", f"{path}.{index + 1}", f"{path}.{index + 2}")


_variant = partial(Variant, conventions=Conventions(activation="relu"))

FAMILIES = (
    Family(
        name="torchvision MNASNet",
        keys=r"layers\.\d+\.(\d+\.layers\.\d+\.)?",
        build=_build,
        variants=(
            _variant("mnasnet0_5", Preprocess(), width=0.5),
            _variant("mnasnet0_75", Preprocess(resize=232), width=0.75),
            _variant("mnasnet1_0", Preprocess(), width=1.0),
            _variant("mnasnet1_3", Preprocess(resize=232), width=1.3),
            _variant("mnasnet", Preprocess()),
        ),
    ),
)
