"""MobileNetV1 as ``stage1``, ``stage2``, ``stage3`` and ``fc``, as face detectors use it (RetinaFace's backbone).

It must not guess the slope of its leaky ReLU: no state dict holds it.
"""

from __future__ import annotations

from sepcore.image.preprocess import Preprocess
from sepcore.models.conventions import Conventions
from sepcore.models.family import Family, Stage, Variant
from sepcore.models.network import Head, Layer, Map, Network

STAGES = (
    Stage("ds", stride=1, channels=64, blocks=1),
    Stage("ds", stride=2, channels=128, blocks=2),
    Stage("ds", stride=2, channels=256, blocks=2),
    Stage("ds", stride=2, channels=512, blocks=6),
    Stage("ds", stride=2, channels=1024, blocks=2),
)
SEQUENCES = (("stage1", 6), ("stage2", 6), ("stage3", 2))
"""How the layout cuts the stem and the 13 blocks: the stem and five blocks, six, two."""


def _build(net: Network, variant: Variant) -> Head:
    paths = [f"{name}.{index}" for name, count in SEQUENCES for index in range(count)]
    strides = [stage.stride if first else 1 for stage in STAGES for first in [True] + [False] * (stage.blocks - 1)]
    stem = paths[0]
    x = net.conv_bn(net.image(), Layer(f"{stem}.0", f"{stem}.1", f"{stem}.2"), stride=2)
    for path, stride in zip(paths[1:], strides, strict=True):
        x = _separable(net, x, path, stride)
    return net.classifier(net.global_pool(x, "avg"), "fc")


def _separable(net: Network, x: Map, path: str, stride: int) -> Map:
    x = net.conv_bn(x, Layer(f"{path}.0", f"{path}.1", f"{path}.2"), stride=stride, depthwise=True)
    return net.conv_bn(x, Layer(f"{path}.3", f"{path}.4", f"{path}.5"), kernel=1)


FAMILIES = (
    Family(
        name="MobileNetV1 in stages",
        keys=r"stage[123]\.\d+\.\d\.",
        build=_build,
        variants=(Variant("mobilenet_v1_stages", Preprocess(), Conventions(activation="leaky_relu")),),
    ),
)
