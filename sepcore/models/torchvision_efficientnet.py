"""torchvision's EfficientNet B0 to B7 and EfficientNetV2 (Tan and Le 2019, table 1; 2021, table 4).

It must not know how a state dict is chosen for it.
"""

from __future__ import annotations

from functools import partial

from sepcore.image.preprocess import Preprocess
from sepcore.models.blocks import inverted_residual
from sepcore.models.conventions import Conventions
from sepcore.models.family import INCEPTION_MEAN, INCEPTION_STD, Family, Stage, Variant
from sepcore.models.network import Head, Map, Network
from sepcore.models.torchvision_layout import block_paths, stem_or_head, triple

STAGES = (
    Stage("ir", stride=1, channels=16, blocks=1),
    Stage("ir", stride=2, channels=24, blocks=2),
    Stage("ir", stride=2, channels=40, blocks=2),
    Stage("ir", stride=2, channels=80, blocks=3),
    Stage("ir", stride=1, channels=112, blocks=3),
    Stage("ir", stride=2, channels=192, blocks=4),
    Stage("ir", stride=1, channels=320, blocks=1),
)
V2_SMALL = (
    Stage("cn", stride=1, channels=24, blocks=2),
    Stage("er", stride=2, channels=48, blocks=4),
    Stage("er", stride=2, channels=64, blocks=4),
    Stage("ir", stride=2, channels=128, blocks=6),
    Stage("ir", stride=1, channels=160, blocks=9),
    Stage("ir", stride=2, channels=256, blocks=15),
)
V2_LARGER = (
    Stage("cn", stride=1, channels=24, blocks=3),
    Stage("er", stride=2, channels=48, blocks=5),
    Stage("er", stride=2, channels=80, blocks=5),
    Stage("ir", stride=2, channels=160, blocks=7),
    Stage("ir", stride=1, channels=176, blocks=14),
    Stage("ir", stride=2, channels=304, blocks=18),
    Stage("ir", stride=1, channels=512, blocks=5),
)


def _build(net: Network, variant: Variant, stages: tuple[Stage, ...]) -> Head:
    x = stem_or_head(net, net.image(), "features.0", stride=2)
    for index, stage in enumerate(stages):
        path = f"features.{index + 1}"
        count = variant.blocks(stage, net.weights.count(path))
        for number in range(count):
            out = variant.channels(index, stage) if number == count - 1 else None
            x = _block(net, x, f"{path}.{number}", stage.block, 1 if number else stage.stride, out)
    x = stem_or_head(net, x, f"features.{len(stages) + 1}", kernel=1)
    return net.classifier(net.global_pool(x, "avgpool"), "classifier")


def _block(net: Network, x: Map, path: str, kind: str, stride: int, out: int | None) -> Map:
    if kind == "cn":
        y = net.conv_bn(x, triple(f"{path}.block.0"), stride=stride, out=out)
        adds = stride == 1 and x.channels == y.channels
        return net.residual(y, x, f"{path}.add") if adds else y
    return inverted_residual(net, x, block_paths(net, path, fused=kind == "er"), stride=stride, out=out)


def _bicubic(resize: int, size: int) -> Preprocess:
    return Preprocess((size, size), resize, interpolation="bicubic")


def _bilinear(size: int) -> Preprocess:
    return Preprocess((size, size), size)


_KEYS = r"features\.\d+\.(\d\.|\d+\.block\.)"
_b = partial(Variant, conventions=Conventions(activation="silu"))
_b_tensorflow_eps = partial(Variant, conventions=Conventions(activation="silu", bn_eps=1e-3))
_v2_large = Preprocess((480, 480), 480, interpolation="bicubic", mean=INCEPTION_MEAN, std=INCEPTION_STD)

FAMILIES = (
    Family(
        name="torchvision EfficientNet",
        keys=_KEYS,
        build=partial(_build, stages=STAGES),
        variants=(
            _b("efficientnet_b0", _bicubic(256, 224), width=1.0, depth=1.0),
            _b("efficientnet_b1", _bicubic(256, 240), width=1.0, depth=1.1),
            _b("efficientnet_b2", _bicubic(288, 288), width=1.1, depth=1.2),
            _b("efficientnet_b3", _bicubic(320, 300), width=1.2, depth=1.4),
            _b("efficientnet_b4", _bicubic(384, 380), width=1.4, depth=1.8),
            _b_tensorflow_eps("efficientnet_b5", _bicubic(456, 456), width=1.6, depth=2.2),
            _b_tensorflow_eps("efficientnet_b6", _bicubic(528, 528), width=1.8, depth=2.6),
            _b_tensorflow_eps("efficientnet_b7", _bicubic(600, 600), width=2.0, depth=3.1),
            _b("efficientnet", _bicubic(256, 224)),
        ),
    ),
    Family(
        name="torchvision EfficientNetV2-S",
        keys=_KEYS,
        build=partial(_build, stages=V2_SMALL),
        variants=(_b_tensorflow_eps("efficientnet_v2_s", _bilinear(384)),),
    ),
    Family(
        name="torchvision EfficientNetV2",
        keys=_KEYS,
        build=partial(_build, stages=V2_LARGER),
        variants=(
            _b_tensorflow_eps("efficientnet_v2_m", _bilinear(480), width=1.0),
            _b_tensorflow_eps("efficientnet_v2_l", _v2_large, stage_channels=(32, 64, 96, 192, 224, 384, 640)),
            _b_tensorflow_eps("efficientnet_v2", _bilinear(480)),
        ),
    ),
)
